# A snapshot of a droplet. It fits no plan with a smaller disk than the build's, so that is the smallest that works.
variable "region" {
  type    = string
  default = "fra1"
}

variable "size" {
  type        = string
  default     = "s-1vcpu-1gb"
  description = "Its disk of 25 GB is the least that servers of the image need."
}

variable "image" {
  type = string
}

variable "snapshot_timeout" {
  type    = string
  default = "30m"
}

source "digitalocean" "host" {
  region = var.region
  size   = var.size
  image  = var.image

  droplet_name  = "${var.name}-build"
  snapshot_name = var.name
  # Its builder does not see that a snapshot has failed: it waits for it.
  snapshot_timeout = var.snapshot_timeout
  # A tag stays in the account for ever, so none has a name of its own for each build.
  tags          = ["managed-by:easyrunner"]
  snapshot_tags = ["managed-by:easyrunner"] # since 1.7

  ssh_username              = "root"
  ssh_clear_authorized_keys = true
  ssh_timeout               = "15m"
}
