"""Reading the files of run directories, and the page of gan-report."""
