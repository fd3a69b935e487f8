"""What a server consists of on AWS: one module for each kind of resource."""
