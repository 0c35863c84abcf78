"""The Dockerfile language: text in, frozen values out. No file, no process, no network."""
