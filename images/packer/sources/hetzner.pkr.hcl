# A snapshot. The architecture is that of the server type; the image has one name for both.
variable "location" {
  type    = string
  default = "nbg1"
}

variable "server_type" {
  type = string
}

variable "image" {
  type = string
}

source "hcloud" "host" {
  location    = var.location
  server_type = var.server_type
  image       = var.image

  server_name     = "${var.name}-build"
  snapshot_name   = var.name
  snapshot_labels = local.tags
  server_labels   = local.tags # since 1.7
  ssh_keys_labels = local.tags # since 1.7

  ssh_username              = "root"
  ssh_clear_authorized_keys = true
  ssh_timeout               = "15m"
}
