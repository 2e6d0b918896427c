"""The pages: what people see in a browser, made here; the scripts only send forms and keep what was typed."""
