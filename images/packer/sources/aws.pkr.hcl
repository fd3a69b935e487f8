# An AMI. Credentials come from where the AWS SDK looks: the environment, ~/.aws, or the role of the machine.
# IMDSv2 cannot be asked for in a file that the builder of 1.6.6 also reads (metadata_options came later). The build's
# instance has no role, so there is nothing to steal there; servers are launched with tokens required.
variable "region" {
  type    = string
  default = "us-east-1"
}

variable "instance_type" {
  type = string
}

variable "image_name" {
  type        = string
  description = "Name of the stock AMI, with wildcards; the newest is taken."
}

variable "image_owner" {
  type        = string
  description = "Account id of its publisher: a name alone could be anybody's."
}

variable "image_arch" {
  type        = string
  description = "x86_64 or arm64, as EC2 says it."
}

variable "root_device" {
  type = string
}

variable "ssh_username" {
  type = string
}

variable "disk_size" {
  type        = number
  default     = 8
  description = "GiB."
}

variable "encrypted" {
  type        = bool
  default     = true
  description = "With the account's own key. An encrypted AMI cannot be made public."
}

variable "ssh_from" {
  type        = list(string)
  default     = ["0.0.0.0/0"]
  description = "Networks that reach the build's instance by SSH; best this machine's own address."
}

variable "subnet_id" {
  type        = string
  default     = ""
  description = "Where the build's instance stands; empty takes the default VPC, which not every account has."
}

variable "public_ip" {
  type        = bool
  default     = true
  description = "Whether it gets a public address there; without one this machine must reach the subnet."
}

# For an endpoint that speaks EC2 without being it. Left empty they are not there.
variable "custom_endpoint_ec2" {
  type    = string
  default = ""
}

variable "ssh_host" {
  type    = string
  default = ""
}

variable "ssh_port" {
  type    = number
  default = 22
}

variable "ssh_keypair_name" {
  type        = string
  default     = ""
  description = "A key pair that is there already; empty has one made for this build, and removed."
}

variable "ssh_private_key_file" {
  type    = string
  default = ""
}

variable "skip_checks" {
  type        = bool
  default     = false
  description = "No check of the region, the credentials or the metadata service."
}

source "amazon-ebs" "host" {
  region        = var.region
  instance_type = var.instance_type

  source_ami_filter {
    filters = {
      name                = var.image_name
      architecture        = var.image_arch
      root-device-type    = "ebs"
      virtualization-type = "hvm"
    }
    owners      = [var.image_owner]
    most_recent = true
  }

  launch_block_device_mappings {
    device_name           = var.root_device
    volume_type           = "gp3"
    volume_size           = var.disk_size
    iops                  = 3000
    throughput            = 125
    encrypted             = var.encrypted
    delete_on_termination = true
  }

  ami_name          = var.name
  ami_description   = "EasyRunner host, ${var.base}, ${var.arch}"
  force_deregister  = false
  ena_support       = true
  shutdown_behavior = "terminate"
  run_tags          = merge(local.tags, { Name = "${var.name}-build" })
  run_volume_tags   = merge(local.tags, { Name = "${var.name}-build" })
  tags              = merge(local.tags, { Name = var.name })
  snapshot_tags     = merge(local.tags, { Name = var.name })

  subnet_id                   = var.subnet_id
  associate_public_ip_address = var.public_ip

  temporary_security_group_source_cidrs = var.ssh_from
  ssh_username                          = var.ssh_username
  ssh_host                              = var.ssh_host
  ssh_port                              = var.ssh_port
  ssh_keypair_name                      = var.ssh_keypair_name
  ssh_private_key_file                  = var.ssh_private_key_file
  ssh_clear_authorized_keys             = true
  ssh_timeout                           = "15m"

  custom_endpoint_ec2        = var.custom_endpoint_ec2
  skip_region_validation     = var.skip_checks
  skip_credential_validation = var.skip_checks
  skip_metadata_api_check    = var.skip_checks
}
