packer {
  required_version = ">= 1.7.0"
  required_plugins {
    vultr = {
      source  = "github.com/vultr/vultr"
      version = "= 2.7.0"
    }
  }
}
