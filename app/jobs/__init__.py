"""Jobs: upscaling that outlives its request, with a table of jobs, a store of files, and tasks that process them."""
