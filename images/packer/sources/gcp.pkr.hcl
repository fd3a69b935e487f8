# An image of Compute Engine. The key goes to the agent of the stock image, which makes the login; the last step removes it.
variable "project_id" {
  type = string
}

variable "zone" {
  type    = string
  default = "europe-west1-b"
}

variable "machine_type" {
  type = string
}

variable "image_family" {
  type = string
}

variable "image_project" {
  type        = string
  description = "The publisher's project: a family alone could be anybody's."
}

source "googlecompute" "host" {
  project_id              = var.project_id
  zone                    = var.zone
  machine_type            = var.machine_type
  source_image_family     = var.image_family
  source_image_project_id = [var.image_project]

  instance_name     = "${var.name}-build"
  image_name        = var.name
  image_description = "EasyRunner host, ${var.base}, ${var.arch}"
  image_labels      = local.tags
  labels            = local.tags
  disk_size         = 10

  # The instance needs no rights in the project, and no key of the project's may enter it.
  disable_default_service_account = true
  metadata = {
    block-project-ssh-keys = "true"
  }

  ssh_username              = "packer"
  ssh_clear_authorized_keys = true
  ssh_timeout               = "15m"
}
