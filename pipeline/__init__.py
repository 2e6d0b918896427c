"""The case: vocabulary, intake, stages, store, job folder and command line."""
