# A local image without a virtual machine: er has booted the disk's root in a container, and writes the disk afterwards.
variable "ssh_host" {
  type        = string
  description = "The container's address."
}

variable "ssh_private_key_file" {
  type        = string
  description = "The key made for this build."
}

source "null" "host" {
  ssh_host             = var.ssh_host
  ssh_username         = "root"
  ssh_private_key_file = var.ssh_private_key_file
  ssh_timeout          = "5m"
  # sshd answers before cloud-init has put the key there.
  ssh_handshake_attempts = 200
}
