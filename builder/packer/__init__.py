"""Bakes an image with Packer: `er build-image`.

request          what is asked for, and whether it can be done: on targets, credentials, convert
build            what Packer will be given, and the whole bake; build_local and build_container for this machine
run              calls Packer in a work_directory with its upload_files; steps reads what it says, failures explains it
artifact         what comes out: contents checked, manifest, SBOM, differences
leftovers        what a build may have left at a provider; account finds and removes it there
program, build_log  the argv lists of Packer; all that it prints, secrets removed

Only the command line imports this package. It stands on qemu, lab, disk, imagecheck and manifest.
"""
