# A template, which has no tags there; its name has at most 40 characters.
variable "zone" {
  type    = string
  default = "de-fra1"
}

variable "server_plan" {
  type    = string
  default = "1xCPU-2GB"
}

variable "image" {
  type        = string
  description = "Part of the name of the stock template; the first that matches is taken."
}

source "upcloud" "host" {
  zone         = var.zone
  server_plan  = var.server_plan
  storage_name = var.image
  storage_size = 10

  template_name = var.name

  ssh_username              = "root"
  ssh_clear_authorized_keys = true
  ssh_timeout               = "15m"
}
