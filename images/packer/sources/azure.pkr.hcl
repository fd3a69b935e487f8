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

  managed_image_name                = var.name
  managed_image_resource_group_name = var.resource_group
  azure_tags                        = local.tags

  # The admin that Azure makes by this name; the last step removes it.
  ssh_username              = "packer"
  ssh_clear_authorized_keys = true
  ssh_timeout               = "15m"
}
