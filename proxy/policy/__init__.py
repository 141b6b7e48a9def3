"""The policy: what a person wrote, checked, and the frozen snapshot that requests are served by.

load      a file's bytes → the two steps below → `Policy`, or every error at once
document  YAML text → a tree that remembers where everything was written
expand    `${VAR}` in that tree's text
config    the tree's data → typed, validated sections (config_*.py, on the types of fields.py)
compile   those sections → `snapshot.Policy`

problems  what is wrong with a file, each as one line that never shows a secret
"""
