"""Reading only what is new, from continuation tokens."""
