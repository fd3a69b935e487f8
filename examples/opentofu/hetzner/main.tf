# Servers that er describes, behind a load balancer of Hetzner's, with certificates on a server that only they reach.
# docs/opentofu.md says how to make them and how to bring them to a new image.

terraform {
  required_version = ">= 1.8"
  required_providers {
    hcloud   = { source = "hetznercloud/hcloud", version = "~> 1.50" }
    external = { source = "hashicorp/external", version = "~> 2.3" }
  }
}

variable "servers" {
  type        = map(object({ image = string, serving = optional(bool, true) }))
  description = "By name, the id of the snapshot that er build-image made, and whether visitors are sent there."
}

variable "location" {
  type    = string
  default = "nbg1"
}

variable "network_zone" {
  type    = string
  default = "eu-central"
}

variable "server_type" {
  type        = string
  default     = "cx22"
  description = "Of the image's architecture."
}

# The same for all: what differs is made on the server. Its secrets are set once it is up, and are not in it.
data "external" "host" {
  program = [
    "er", "user-data", "${path.module}/easyrunner.yaml",
    "--for", "hetzner", "--on", "baked", "--json", "--flat",
  ]
}

resource "hcloud_network" "private" {
  name     = "web"
  ip_range = "10.0.0.0/16"
}

resource "hcloud_network_subnet" "hosts" {
  network_id   = hcloud_network.private.id
  type         = "cloud"
  network_zone = var.network_zone
  ip_range     = "10.0.1.0/24"
}

# Firewalls here hold for public addresses; the private network is the project's alone.
resource "hcloud_firewall" "web" {
  name = "web"
  dynamic "rule" {
    for_each = ["22", "80", "443"]
    content {
      direction  = "in"
      protocol   = "tcp"
      port       = rule.value
      source_ips = ["0.0.0.0/0", "::/0"]
    }
  }
}

# With no rule nothing comes in.
resource "hcloud_firewall" "certificates" {
  name = "certificates"
}

resource "hcloud_server" "certificates" {
  name         = "certificates"
  location     = var.location
  server_type  = var.server_type
  image        = "debian-13"
  user_data    = file("${path.module}/certificates.yaml")
  firewall_ids = [hcloud_firewall.certificates.id]

  network {
    network_id = hcloud_network.private.id
    ip         = "10.0.1.3"
  }

  depends_on = [hcloud_network_subnet.hosts]
}

resource "hcloud_server" "web" {
  for_each = var.servers

  name         = each.key
  location     = var.location
  server_type  = var.server_type
  image        = each.value.image
  user_data    = data.external.host.result.user_data
  firewall_ids = [hcloud_firewall.web.id]
  labels       = { balancer = each.value.serving ? "web" : "none" }

  network {
    network_id = hcloud_network.private.id
  }

  # A changed spec is for new servers: it destroys none.
  lifecycle {
    ignore_changes = [user_data]
  }

  # What is made after this waits until it is ready, and fails if it is not: 15 minutes.
  provisioner "local-exec" {
    command = "curl -fsS -o /dev/null --retry 90 --retry-delay 10 --retry-all-errors --max-time 10 http://${self.ipv4_address}/.well-known/easyrunner/ready"
  }

  depends_on = [hcloud_server.certificates]
}

resource "hcloud_load_balancer" "web" {
  name               = "web"
  load_balancer_type = "lb11"
  location           = var.location
}

resource "hcloud_load_balancer_network" "web" {
  load_balancer_id = hcloud_load_balancer.web.id
  subnet_id        = hcloud_network_subnet.hosts.id
  ip               = "10.0.1.2"
}

resource "hcloud_load_balancer_target" "web" {
  load_balancer_id = hcloud_load_balancer.web.id
  type             = "label_selector"
  label_selector   = "balancer=web"
  use_private_ip   = true

  depends_on = [hcloud_load_balancer_network.web]
}

# TLS ends on the servers; who a visitor is comes by the PROXY protocol.
resource "hcloud_load_balancer_service" "web" {
  for_each = toset(["80", "443"])

  load_balancer_id = hcloud_load_balancer.web.id
  protocol         = "tcp"
  listen_port      = tonumber(each.value)
  destination_port = tonumber(each.value)
  proxyprotocol    = true

  health_check {
    protocol = "http"
    port     = 80
    interval = 10
    timeout  = 5
    retries  = 2
    http {
      domain       = "ready" # without one, requests have no Host
      path         = "/.well-known/easyrunner/ready"
      status_codes = ["200"]
    }
  }
}

output "address" {
  value       = { ipv4 = hcloud_load_balancer.web.ipv4, ipv6 = hcloud_load_balancer.web.ipv6 }
  description = "Where the records of these domains point."
}

output "domains" {
  value = jsondecode(data.external.host.result.domains)
}
