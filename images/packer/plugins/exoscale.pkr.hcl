packer {
  required_version = ">= 1.7.0"
  required_plugins {
    exoscale = {
      source  = "github.com/exoscale/exoscale"
      version = "= 0.5.2"
    }
  }
}
