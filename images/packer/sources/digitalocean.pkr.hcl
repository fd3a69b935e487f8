# A snapshot of a droplet.
variable "region" {
  type    = string
  default = "fra1"
}

variable "size" {
  type    = string
  default = "s-1vcpu-2gb"
}

variable "image" {
  type = string
}

source "digitalocean" "host" {
  region = var.region
  size   = var.size
  image  = var.image

  droplet_name  = "${var.name}-build"
  snapshot_name = var.name
  tags          = [for key, value in local.tags : "${key}:${value}"]

  ssh_username              = "root"
  ssh_clear_authorized_keys = true
  ssh_timeout               = "15m"
}
