# A template, cloned from one that the owner has made of a stock cloud image, with a cloud-init drive. PROXMOX_URL,
# PROXMOX_USERNAME and PROXMOX_PASSWORD say where and who.
variable "node" {
  type = string
}

variable "clone_vm" {
  type        = string
  description = "Name of the template to clone, of the base and the architecture that are wanted."
}

variable "bridge" {
  type    = string
  default = "vmbr0"
}

variable "cores" {
  type    = number
  default = 2
}

variable "memory" {
  type        = number
  default     = 2048
  description = "MiB."
}

variable "cloud_init_storage_pool" {
  type        = string
  default     = "local-lvm"
  description = "Where the new template keeps its own cloud-init drive."
}

variable "task_timeout" {
  type        = string
  default     = "30m"
  description = "For each of its tasks; a full clone of a large template takes its time."
}

variable "insecure_skip_tls_verify" {
  type    = bool
  default = false
}

source "proxmox-clone" "host" {
  node                     = var.node
  clone_vm                 = var.clone_vm
  full_clone               = true
  task_timeout             = var.task_timeout # since 1.7
  insecure_skip_tls_verify = var.insecure_skip_tls_verify

  vm_name    = "${var.name}-build"
  cores      = var.cores
  memory     = var.memory
  os         = "l26"
  qemu_agent = true

  network_adapters {
    model  = "virtio"
    bridge = var.bridge
  }

  template_name           = var.name
  template_description    = "EasyRunner host, ${var.base}, ${var.arch}"
  cloud_init              = true
  cloud_init_storage_pool = var.cloud_init_storage_pool

  ssh_username              = "root"
  ssh_clear_authorized_keys = true
  ssh_timeout               = "15m"
}
