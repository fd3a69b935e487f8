# Servers that er describes, behind a load balancer of OpenStack's (Octavia), with certificates on a server that only they
# reach. docs/opentofu.md says how to make them and how to bring them to a new image.

terraform {
  required_version = ">= 1.8"
  required_providers {
    openstack = { source = "terraform-provider-openstack/openstack", version = "~> 3.0" }
    external  = { source = "hashicorp/external", version = "~> 2.3" }
  }
}

variable "servers" {
  type        = map(object({ image = string, serving = optional(bool, true) }))
  description = "By name, the id of the image that er build-image made, and whether visitors are sent there."
}

variable "flavor" {
  type        = string
  description = "Of the image's architecture, by the cloud's own names."
}

variable "debian_image" {
  type        = string
  description = "The cloud's own image of Debian 13, for the server with the certificates."
}

variable "public_network" {
  type        = string
  description = "The name of the network with public addresses."
}

locals {
  ready = "/.well-known/easyrunner/ready"
}

# The same for all: what differs is made on the server. Its secrets are set once it is up, and are not in it.
data "external" "host" {
  program = [
    "er", "user-data", "${path.module}/easyrunner.yaml",
    "--for", "openstack", "--on", "baked", "--json", "--flat",
  ]
}

data "openstack_networking_network_v2" "public" {
  name = var.public_network
}

data "openstack_images_image_v2" "debian" {
  name        = var.debian_image
  most_recent = true
}

resource "openstack_networking_network_v2" "private" {
  name = "web"
}

resource "openstack_networking_subnet_v2" "hosts" {
  name       = "hosts"
  network_id = openstack_networking_network_v2.private.id
  cidr       = "10.0.1.0/24"

  allocation_pool {
    start = "10.0.1.10"
    end   = "10.0.1.250"
  }
}

resource "openstack_networking_network_v2" "balancer" {
  name = "web-balancer"
}

resource "openstack_networking_subnet_v2" "balancer" {
  name       = "balancer"
  network_id = openstack_networking_network_v2.balancer.id
  cidr       = "10.0.2.0/24"
}

resource "openstack_networking_router_v2" "web" {
  name                = "web"
  external_network_id = data.openstack_networking_network_v2.public.id
}

resource "openstack_networking_router_interface_v2" "web" {
  for_each = {
    hosts    = openstack_networking_subnet_v2.hosts.id
    balancer = openstack_networking_subnet_v2.balancer.id
  }

  router_id = openstack_networking_router_v2.web.id
  subnet_id = each.value
}

resource "openstack_networking_secgroup_v2" "web" {
  name = "web"
}

resource "openstack_networking_secgroup_rule_v2" "web" {
  for_each = toset(["22", "80", "443"])

  security_group_id = openstack_networking_secgroup_v2.web.id
  direction         = "ingress"
  ethertype         = "IPv4"
  protocol          = "tcp"
  port_range_min    = tonumber(each.value)
  port_range_max    = tonumber(each.value)
  remote_ip_prefix  = "0.0.0.0/0"
}

resource "openstack_networking_secgroup_v2" "certificates" {
  name = "web-certificates"
}

resource "openstack_networking_secgroup_rule_v2" "certificates" {
  security_group_id = openstack_networking_secgroup_v2.certificates.id
  direction         = "ingress"
  ethertype         = "IPv4"
  protocol          = "tcp"
  port_range_min    = 2049
  port_range_max    = 2049
  remote_group_id   = openstack_networking_secgroup_v2.web.id
}

resource "openstack_networking_port_v2" "certificates" {
  name               = "certificates"
  network_id         = openstack_networking_network_v2.private.id
  security_group_ids = [openstack_networking_secgroup_v2.certificates.id]

  fixed_ip {
    subnet_id  = openstack_networking_subnet_v2.hosts.id
    ip_address = "10.0.1.3"
  }
}

resource "openstack_compute_instance_v2" "certificates" {
  name        = "certificates"
  image_id    = data.openstack_images_image_v2.debian.id
  flavor_name = var.flavor
  user_data   = file("${path.module}/certificates.yaml")

  network {
    port = openstack_networking_port_v2.certificates.id
  }

  # It installs a package.
  depends_on = [openstack_networking_router_interface_v2.web]
}

resource "openstack_networking_port_v2" "web" {
  for_each = var.servers

  name               = each.key
  network_id         = openstack_networking_network_v2.private.id
  security_group_ids = [openstack_networking_secgroup_v2.web.id]

  fixed_ip {
    subnet_id = openstack_networking_subnet_v2.hosts.id
  }
}

resource "openstack_compute_instance_v2" "web" {
  for_each = var.servers

  name        = each.key
  image_id    = each.value.image
  flavor_name = var.flavor
  user_data   = data.external.host.result.user_data

  network {
    port = openstack_networking_port_v2.web[each.key].id
  }

  # A changed spec is for new servers: it destroys none.
  lifecycle {
    ignore_changes = [user_data]
  }

  depends_on = [openstack_compute_instance_v2.certificates]
}

resource "openstack_lb_loadbalancer_v2" "web" {
  name          = "web"
  vip_subnet_id = openstack_networking_subnet_v2.balancer.id

  depends_on = [openstack_networking_router_interface_v2.web]
}

resource "openstack_lb_listener_v2" "web" {
  for_each = toset(["80", "443"])

  name            = "web-${each.value}"
  loadbalancer_id = openstack_lb_loadbalancer_v2.web.id
  protocol        = "TCP"
  protocol_port   = tonumber(each.value)
}

# TLS ends on the servers; who a visitor is comes by the PROXY protocol.
resource "openstack_lb_pool_v2" "web" {
  for_each = openstack_lb_listener_v2.web

  name        = each.value.name
  listener_id = each.value.id
  protocol    = "PROXYV2"
  lb_method   = "LEAST_CONNECTIONS"
}

resource "openstack_lb_monitor_v2" "web" {
  for_each = openstack_lb_pool_v2.web

  pool_id        = each.value.id
  type           = "HTTP"
  url_path       = local.ready
  expected_codes = "200"
  delay          = 10
  timeout        = 5
  max_retries    = 2
}

resource "openstack_lb_member_v2" "web" {
  for_each = {
    for pair in setproduct(keys(openstack_lb_pool_v2.web), [for name, server in var.servers : name if server.serving]) :
    "${pair[1]}-${pair[0]}" => { port = pair[0], server = pair[1] }
  }

  name          = each.key
  pool_id       = openstack_lb_pool_v2.web[each.value.port].id
  address       = openstack_networking_port_v2.web[each.value.server].all_fixed_ips[0]
  protocol_port = tonumber(each.value.port)
  monitor_port  = 80

  depends_on = [openstack_compute_instance_v2.web]
}

resource "openstack_networking_floatingip_v2" "web" {
  pool    = var.public_network
  port_id = openstack_lb_loadbalancer_v2.web.vip_port_id

  depends_on = [openstack_networking_router_interface_v2.web]
}

output "address" {
  value       = { ipv4 = openstack_networking_floatingip_v2.web.address }
  description = "Where the records of these domains point."
}

output "domains" {
  value = jsondecode(data.external.host.result.domains)
}
