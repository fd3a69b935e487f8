# What every target is told. What only one of them takes stands in its own file below sources/.
variable "source" {
  type        = string
  description = "The source to build from: <builder>.host."
}

variable "name" {
  type        = string
  description = "What the image will be called: lower case letters, digits and hyphens."
}

variable "base" {
  type        = string
  description = "debian-13 or ubuntu-24.04."
}

variable "arch" {
  type        = string
  description = "amd64 or arm64."
}

variable "tags" {
  type        = map(string)
  default     = {}
  description = "Put on everything that the build makes, where the provider has tags; more than these two."
}

variable "mark" {
  type        = string
  default     = "er-step"
  description = "Said by every step at its end, on both streams, with its exit code: the line between it and Packer's own talk."
}

locals {
  tags = merge({ "managed-by" = "easyrunner", "image" = var.name }, var.tags)

  # The login is root on some stock images, and a user with sudo on the others. Scripts lie in memory, never on the disk.
  as_root = "$(command -v sudo) env {{ .Vars }} sh {{ .Path }}; code=$?; for to in 1 2; do printf '\\n%s %s\\n' ${var.mark} $code >&$to; done; exit $code"
  scripts = "/dev/shm"
}
