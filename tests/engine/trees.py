"""Trees of any shape, by Hypothesis."""

from pathlib import Path

from hypothesis import strategies as st


def plant(root: Path, shape: object) -> None:
    """Make files and folders as a nested dict says."""
    if not isinstance(shape, dict):
        root.write_text(str(shape))
        return
    root.mkdir(exist_ok=True)
    for name, below in shape.items():
        plant(root / name, below)


names = st.sampled_from("abcdefg")
trees = st.recursive(
    st.integers(0, 10**6),
    lambda below: st.dictionaries(names, below, max_size=6),
    max_leaves=40,
).filter(lambda tree: isinstance(tree, dict) and tree)
