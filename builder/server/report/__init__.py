"""A page about one host: what was promised, what was seen from outside and from inside, and its picture.

`gather` asks the host over ssh, and `outside` from this machine by real connections; what they bring is one value that
could be JSON. `outside_rows` and `inside_rows` make rows of it, `assemble` puts these together, of all stacks or of
one, and `page` writes the file. Only `gather` and `outside` touch the network.
"""
