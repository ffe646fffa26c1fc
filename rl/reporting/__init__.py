"""The report of runs: what is gathered from run directories, and the page that is made of it."""
