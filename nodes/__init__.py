"""The ComfyUI nodes. The only folder that imports the host (`comfy`, `comfy_api`, `folder_paths`).

One file for each node; what differs between versions of the host is in `host.py` alone.
"""
