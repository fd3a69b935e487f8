# An image and its snapshot; the builder of 1.6.6 gives no tags, so the names tell whose they are.
variable "zone" {
  type    = string
  default = "fr-par-1"
}

variable "commercial_type" {
  type = string
}

variable "image" {
  type        = string
  description = "A label of the marketplace, or a UUID."
}

source "scaleway" "host" {
  zone            = var.zone
  commercial_type = var.commercial_type
  image           = var.image

  server_name   = "easyrunner-${var.name}-build"
  image_name    = "easyrunner-${var.name}"
  snapshot_name = "easyrunner-${var.name}"                           # until 1.6
  tags          = [for key, value in local.tags : "${key}=${value}"] # since 1.7
  boottype      = "local"
  remove_volume = true

  root_volume {                              # since 1.7
    snapshot_name = "easyrunner-${var.name}" # since 1.7
  }                                          # since 1.7

  ssh_username              = "root"
  ssh_clear_authorized_keys = true
  ssh_timeout               = "15m"
}
