packer {
  required_version = ">= 1.7.0"
  required_plugins {
    upcloud = {
      source  = "github.com/UpCloudLtd/upcloud"
      version = "= 1.10.0"
    }
  }
}
