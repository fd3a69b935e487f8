# A snapshot. It fits no plan with a smaller disk than the build's, so that is the smallest that works.
variable "region_id" {
  type    = string
  default = "fra"
}

variable "plan_id" {
  type        = string
  default     = "vc2-1c-1gb"
  description = "Its disk of 25 GB is the least that servers of the image need."
}

variable "os_id" {
  type = number
}

source "vultr" "host" {
  region_id = var.region_id
  plan_id   = var.plan_id
  os_id     = var.os_id

  instance_label       = "${var.name}-build"
  snapshot_description = var.name
  tags                 = [for key, value in local.tags : "${key}:${value}"]
  state_timeout        = "30m"

  ssh_username              = "root"
  ssh_clear_authorized_keys = true
  ssh_timeout               = "15m"
}
