"""The report on many traces: one page with its plots, in a file that loads nothing; knows no trace and no file."""
