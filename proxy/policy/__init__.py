"""The policy: what a person wrote, checked, and the frozen snapshot that requests are served by.

load      a file's bytes → the steps below → `Policy`, or every error at once
files     bytes of regular files, bounded and remembered
document  YAML text → a tree that remembers where everything was written
extend    that tree on top of the one of the file it `extends`
expand    `${VAR}` in that tree's text
config    the tree's data → typed, validated sections (config_*.py)
            on the types of fields.py, the forms of units.py and address.py, the references of facts.py
compile   those sections → `snapshot.Policy`
warn      what is legal in them and probably not meant
schema    the same as a JSON Schema, for editors

store     the active policy, and what takes its place when its files change
            folders: a hint that they did; mounts: where they never do
diff      what a change of policy does to whose users: moves (shares), agent_diff, diff_text (words)
            on settings: a policy flat, `key: text` (flatten: of the sections)
edit      values set in a file, atomically, the result checked; splice: in its text, all else kept

placeholders  for looking at a policy without its variables
redact    the sections as they may be shown
diagnose  pydantic's findings → problems with place and key
problems  one line each, never with a secret
"""
