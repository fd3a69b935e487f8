# A custom template, which has no tags there. The builder reads no credentials from the environment: PKR_VAR_<name>.
variable "api_key" {
  type      = string
  sensitive = true
}

variable "api_secret" {
  type      = string
  sensitive = true
}

variable "zone" {
  type    = string
  default = "de-fra-1"
}

variable "instance_type" {
  type    = string
  default = "standard.small"
}

variable "image" {
  type = string
}

variable "ssh_username" {
  type = string
}

variable "security_groups" {
  type        = list(string)
  default     = ["default"]
  description = "They must let SSH in."
}

source "exoscale" "host" {
  api_key    = var.api_key
  api_secret = var.api_secret

  instance_zone            = var.zone
  instance_type            = var.instance_type
  instance_template        = var.image
  instance_name            = "${var.name}-build"
  instance_disk_size       = 10
  instance_security_groups = var.security_groups

  template_zones            = [var.zone]
  template_name             = var.name
  template_description      = "EasyRunner host, ${var.base}, ${var.arch}"
  template_username         = var.ssh_username
  template_disable_password = true

  ssh_username              = var.ssh_username
  ssh_clear_authorized_keys = true
  ssh_timeout               = "15m"
}
