"""Images: what a host lacks and how it comes, by `pushes`, from `registries`, or built here by `image_builds` and
`build_run`; `kept_images` lie with a stack's data, and `image_storage` is what Podman has.
"""
