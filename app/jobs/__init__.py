"""Jobs: upscaling that outlives its request. A table of jobs, a store of files, and the tasks that process them."""
