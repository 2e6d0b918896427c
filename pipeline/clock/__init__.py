"""The clock of a case: what each leg takes, how likely the case is on time, and until when it may be approved."""
