# An image in Glance, at OVH and other clouds of OpenStack. Names of images and flavors are each cloud's own.
variable "flavor" {
  type        = string
  description = "Of the architecture that is wanted."
}

variable "image" {
  type        = string
  description = "Name of the stock image."
}

variable "networks" {
  type        = list(string)
  default     = []
  description = "UUIDs; empty takes the cloud's own choice."
}

variable "floating_ip_network" {
  type        = string
  default     = ""
  description = "Where the build's server gets a public address, if the cloud gives none by itself."
}

variable "security_groups" {
  type        = list(string)
  default     = []
  description = "They must let SSH in; empty takes the cloud's own choice."
}

variable "ssh_username" {
  type = string
}

source "openstack" "host" {
  flavor              = var.flavor
  source_image_name   = var.image
  networks            = var.networks
  floating_ip_network = var.floating_ip_network
  security_groups     = var.security_groups

  instance_name     = "${var.name}-build"
  instance_metadata = local.tags
  image_name        = var.name
  image_visibility  = "private"
  metadata          = local.tags

  ssh_username              = var.ssh_username
  ssh_clear_authorized_keys = true
  ssh_timeout               = "15m"
}
