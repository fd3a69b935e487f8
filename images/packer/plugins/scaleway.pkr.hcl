packer {
  required_version = ">= 1.7.0"
  required_plugins {
    scaleway = {
      source  = "github.com/scaleway/scaleway"
      version = "= 1.5.0"
    }
  }
}
