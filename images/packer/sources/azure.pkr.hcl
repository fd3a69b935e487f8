# A managed image, generation 2. The builder reads no credentials from the environment: they come as PKR_VAR_<name>, or
# it asks the az program, which has logged in.
variable "subscription_id" {
  type = string
}

variable "tenant_id" {
  type    = string
  default = ""
}

variable "client_id" {
  type    = string
  default = ""
}

variable "client_secret" {
  type      = string
  default   = ""
  sensitive = true
}

variable "use_azure_cli_auth" {
  type    = bool
  default = false
}

variable "location" {
  type    = string
  default = "West Europe"
}

variable "resource_group" {
  type        = string
  description = "Where the image goes; it must exist."
}

variable "vm_size" {
  type = string
}

variable "image_publisher" {
  type = string
}

variable "image_offer" {
  type = string
}

variable "image_sku" {
  type = string
}

# A managed image has no architecture but amd64; arm64 goes into a Compute Gallery, whose definition must exist.
variable "gallery" {
  type        = string
  default     = ""
  description = "Name of a Compute Gallery in the resource group; empty makes a managed image."
}

variable "gallery_image" {
  type        = string
  default     = ""
  description = "An image definition in it, Linux, generation 2, of the architecture that is wanted."
}

locals {
  # The time in the name, as a gallery counts versions: 2026.1129.101500.
  version = try(join(".", [for part in regex("(\\d{4})(\\d{4})-(\\d{6})$", var.name) : tonumber(part)]), "1.0.0")
}

source "azure-arm" "host" {
  subscription_id = var.subscription_id
  tenant_id       = var.tenant_id
  client_id       = var.client_id
  client_secret   = var.client_secret

  use_azure_cli_auth = var.use_azure_cli_auth

  location        = var.location
  vm_size         = var.vm_size
  os_type         = "Linux"
  image_publisher = var.image_publisher
  image_offer     = var.image_offer
  image_sku       = var.image_sku

  managed_image_name                = var.gallery == "" ? var.name : ""
  managed_image_resource_group_name = var.gallery == "" ? var.resource_group : ""
  dynamic "shared_image_gallery_destination" {        # since 1.7
    for_each = var.gallery == "" ? [] : [var.gallery] # since 1.7
    content {                                         # since 1.7
      subscription         = var.subscription_id      # since 1.7
      resource_group       = var.resource_group       # since 1.7
      gallery_name         = var.gallery              # since 1.7
      image_name           = var.gallery_image        # since 1.7
      image_version        = local.version            # since 1.7
      replication_regions  = [var.location]           # since 1.7
      storage_account_type = "Standard_LRS"           # since 1.7
    }                                                 # since 1.7
  }                                                   # since 1.7
  azure_tags = local.tags

  # The admin that Azure makes by this name; the last step removes it.
  ssh_username              = "packer"
  ssh_clear_authorized_keys = true
  ssh_timeout               = "15m"
}
