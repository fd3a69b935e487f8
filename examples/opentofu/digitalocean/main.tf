# Droplets that er describes, behind a load balancer of DigitalOcean's, with certificates on a droplet that only they reach.
# docs/opentofu.md says how to make them and how to bring them to a new image.

terraform {
  required_version = ">= 1.8"
  required_providers {
    digitalocean = { source = "digitalocean/digitalocean", version = "~> 2.50" }
    external     = { source = "hashicorp/external", version = "~> 2.3" }
  }
}

variable "servers" {
  type        = map(object({ image = string, serving = optional(bool, true) }))
  description = "By name, the id of the snapshot that er build-image made, and whether visitors are sent there."
}

variable "region" {
  type    = string
  default = "fra1"
}

variable "size" {
  type        = string
  default     = "s-1vcpu-1gb"
  description = "With a disk that is no smaller than that of the snapshot."
}

variable "ssh_keys" {
  type        = list(string)
  description = "Fingerprints in the account, for the droplet with the certificates; hosts have those of the spec."
}

# The same for all: what differs is made on the server. Its secrets are set once it is up, and are not in it.
data "external" "host" {
  program = [
    "er", "user-data", "${path.module}/easyrunner.yaml",
    "--for", "digitalocean", "--on", "baked", "--json", "--flat",
  ]
}

resource "digitalocean_vpc" "private" {
  name     = "web"
  region   = var.region
  ip_range = "10.100.0.0/20"
}

resource "digitalocean_tag" "web" {
  name = "web"
}

resource "digitalocean_tag" "balanced" {
  name = "web-balanced"
}

resource "digitalocean_tag" "certificates" {
  name = "web-certificates"
}

resource "digitalocean_droplet" "certificates" {
  name      = "certificates"
  region    = var.region
  size      = var.size
  image     = "debian-13-x64"
  vpc_uuid  = digitalocean_vpc.private.id
  ssh_keys  = var.ssh_keys
  tags      = [digitalocean_tag.certificates.name]
  user_data = file("${path.module}/certificates.yaml")
}

resource "digitalocean_droplet" "web" {
  for_each = var.servers

  name      = each.key
  region    = var.region
  size      = var.size
  image     = each.value.image
  vpc_uuid  = digitalocean_vpc.private.id
  ipv6      = true
  tags      = concat([digitalocean_tag.web.name], each.value.serving ? [digitalocean_tag.balanced.name] : [])
  user_data = data.external.host.result.user_data

  lifecycle {
    # A changed spec is for new servers: it destroys none.
    ignore_changes = [user_data]

    precondition {
      condition     = strcontains(file("${path.module}/easyrunner.yaml"), "nfs://${digitalocean_droplet.certificates.ipv4_address_private}:")
      error_message = "write the address of the droplet `certificates` into tls.storage: ${digitalocean_droplet.certificates.ipv4_address_private}"
    }
  }

  # What is made after this waits until it is ready, and fails if it is not: 15 minutes.
  provisioner "local-exec" {
    command = "curl -fsS -o /dev/null --retry 90 --retry-delay 10 --retry-all-errors --max-time 10 http://${self.ipv4_address}/.well-known/easyrunner/ready"
  }
}

resource "digitalocean_firewall" "web" {
  name = "web"
  tags = [digitalocean_tag.web.name]

  dynamic "inbound_rule" {
    for_each = ["22", "80", "443"]
    content {
      protocol         = "tcp"
      port_range       = inbound_rule.value
      source_addresses = ["0.0.0.0/0", "::/0"]
    }
  }

  dynamic "outbound_rule" {
    for_each = ["tcp", "udp"]
    content {
      protocol              = outbound_rule.value
      port_range            = "1-65535"
      destination_addresses = ["0.0.0.0/0", "::/0"]
    }
  }
}

resource "digitalocean_firewall" "certificates" {
  name = "web-certificates"
  tags = [digitalocean_tag.certificates.name]

  inbound_rule {
    protocol    = "tcp"
    port_range  = "2049"
    source_tags = [digitalocean_tag.web.name]
  }

  dynamic "outbound_rule" {
    for_each = ["tcp", "udp"]
    content {
      protocol              = outbound_rule.value
      port_range            = "1-65535"
      destination_addresses = ["0.0.0.0/0", "::/0"]
    }
  }
}

# TLS ends on the servers; who a visitor is comes by the PROXY protocol.
resource "digitalocean_loadbalancer" "web" {
  name                  = "web"
  region                = var.region
  vpc_uuid              = digitalocean_vpc.private.id
  droplet_tag           = digitalocean_tag.balanced.name
  enable_proxy_protocol = true

  dynamic "forwarding_rule" {
    for_each = [80, 443]
    content {
      entry_port      = forwarding_rule.value
      entry_protocol  = "tcp"
      target_port     = forwarding_rule.value
      target_protocol = "tcp"
    }
  }

  healthcheck {
    protocol                 = "http"
    port                     = 80
    path                     = "/.well-known/easyrunner/ready"
    check_interval_seconds   = 10
    response_timeout_seconds = 5
    healthy_threshold        = 2
    unhealthy_threshold      = 2
  }
}

output "certificates" {
  value       = digitalocean_droplet.certificates.ipv4_address_private
  description = "The address in tls.storage."
}

output "address" {
  value       = { ipv4 = digitalocean_loadbalancer.web.ip, ipv6 = digitalocean_loadbalancer.web.ipv6 }
  description = "Where the records of these domains point."
}

output "domains" {
  value = jsondecode(data.external.host.result.domains)
}
