# An image and its snapshot; tags came after the builder of 1.6.6, so the names tell whose they are.
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
  boottype      = "local"
  remove_volume = true

  ssh_username              = "root"
  ssh_clear_authorized_keys = true
  ssh_timeout               = "15m"
}
