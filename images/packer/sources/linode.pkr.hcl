# A private image. The temporary root password that the builder may set is locked by the last steps.
variable "region" {
  type    = string
  default = "eu-central"
}

variable "instance_type" {
  type    = string
  default = "g6-standard-1"
}

variable "image" {
  type = string
}

source "linode" "host" {
  region        = var.region
  instance_type = var.instance_type
  image         = var.image

  instance_label    = "${var.name}-build"
  instance_tags     = [for key, value in local.tags : "${key}:${value}"]
  image_label       = var.name
  image_description = "EasyRunner host, ${var.base}, ${var.arch}"

  # Without it the image has not the capability by which its servers are given user-data.
  cloud_init = true

  ssh_username              = "root"
  ssh_clear_authorized_keys = true
  ssh_timeout               = "15m"
}
