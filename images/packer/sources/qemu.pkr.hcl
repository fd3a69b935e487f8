# A local image, from a disk image that is copied, booted, provisioned and compacted. QEMU itself is told more than the
# builder's own fields can say: see qemuargs.
variable "disk_image" {
  type        = string
  description = "Path or URL of the stock image, in qcow2."
}

variable "disk_image_checksum" {
  type        = string
  description = "sha256:<hex digits>."
}

variable "seed" {
  type        = string
  description = "Path of a disk with the label cidata: NoCloud user-data that lets root in with the key below, and makes no user."
}

variable "ssh_private_key_file" {
  type        = string
  description = "The key made for this build; the builder of 1.6.6 makes none itself."
}

variable "output_directory" {
  type        = string
  description = "Made by the build; it must not exist."
}

variable "format" {
  type    = string
  default = "qcow2"
}

variable "compress" {
  type    = bool
  default = true
}

variable "disk_size" {
  type        = string
  default     = ""
  description = "Such as 10G; empty leaves the size of the stock image. The host grows its file system to any disk at boot."
}

variable "accelerator" {
  type        = string
  default     = "tcg"
  description = "kvm, tcg or none. Never left to Packer, which takes a /dev/kvm that opens for one that works."
}

variable "qemu_binary" {
  type    = string
  default = "qemu-system-x86_64"
}

variable "machine" {
  type    = string
  default = "q35"
}

variable "cpu" {
  type        = string
  default     = "max"
  description = "host with KVM; without, a model that does not switch on costly mitigations."
}

variable "cpus" {
  type    = number
  default = 2
}

variable "memory" {
  type        = number
  default     = 2048
  description = "MiB."
}

variable "serial" {
  type        = string
  default     = "none"
  description = "Where the console goes: file:<path>, or none."
}

variable "qemu_args" {
  type        = list(list(string))
  default     = []
  description = "More of QEMU's own options, such as firmware; they win over those below."
}

source "qemu" "host" {
  accelerator  = var.accelerator
  qemu_binary  = var.qemu_binary
  machine_type = var.machine
  cpus         = var.cpus
  memory       = var.memory
  headless     = true
  disable_vnc  = true

  # A copy, not a backing file: what comes out stands alone, and compaction runs only on such a disk.
  disk_image       = true
  use_backing_file = false
  iso_url          = var.disk_image
  iso_checksum     = var.disk_image_checksum
  skip_resize_disk = var.disk_size == ""
  disk_size        = var.disk_size

  vm_name          = var.name
  output_directory = var.output_directory
  format           = var.format
  disk_compression = var.compress

  ssh_username              = "root"
  ssh_private_key_file      = var.ssh_private_key_file
  ssh_clear_authorized_keys = true
  ssh_timeout               = "20m"
  # sshd answers before cloud-init has put the key there; without KVM that can be many tries.
  ssh_handshake_attempts = 200
  shutdown_command       = "systemctl poweroff"
  shutdown_timeout       = "10m"

  # What is said here replaces the builder's own option of that name.
  # -netdev: its SSH forward listens on every interface of this machine; this one on loopback only.
  # -drive: a crash costs the build anyway, so no flush is waited for; what the host frees does not reach the image.
  qemuargs = concat([
    ["-netdev", "user,id=user.0,hostfwd=tcp:127.0.0.1:{{ .SSHHostPort }}-:22"],
    ["-drive", "file={{ .OutputDir }}/{{ .Name }},if=virtio,format=${var.format},cache=unsafe,discard=unmap,detect-zeroes=unmap"],
    ["-drive", "file=${var.seed},if=virtio,format=raw,readonly=on"],
    ["-cpu", var.cpu],
    ["-vnc", "none"],
    ["-display", "none"],
    ["-serial", var.serial],
  ], var.qemu_args)
}
