# The one build that all targets share. `source` names the one whose file was laid beside this, as "qemu.host".
build {
  dynamic "source" {
    for_each = [var.source]
    labels   = [source.value]
    content {}
  }

  provisioner "shell" {
    script          = "${path.root}/steps/10-wait"
    execute_command = local.as_root
    remote_folder   = local.scripts
  }

  # rootfs.tar, images, plan, check.pyz: see builder/packer/upload_files.py.
  provisioner "file" {
    source      = "${path.root}/payload/"
    destination = "/var/tmp/er-bake"
  }

  provisioner "shell" {
    scripts = [
      "${path.root}/steps/20-files",
      "${path.root}/steps/30-packages",
      "${path.root}/steps/40-proxy-image",
      "${path.root}/steps/50-app-images",
      "${path.root}/steps/60-harden",
      "${path.root}/steps/70-clean",
      "${path.root}/steps/80-verify",
    ]
    execute_command = local.as_root
    remote_folder   = local.scripts
  }
}
