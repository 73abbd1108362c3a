"""The ten themes that come with the skill; each is checked when it is made."""

from collections.abc import Mapping

from .palette import Colors, Theme

NAMES = ("background", "surface", "text", "muted", "primary", "on_primary", "accent", "border")
ROWS = (
    ("harbour", "Deep blue and signal orange on clear white", "Georgia", "Arial",
     "FFFFFF F1F5F9 14202E 4A5A6A 0B4F8A FFFFFF B8450B C9D4DE"),
    ("orchard", "Leaf green and plum on warm paper", "Palatino Linotype", "Verdana",
     "FFFDF7 F5F0E1 22281D 565B48 2F6B2F FFFFFF 8A2F5C D6CFB8"),
    ("brickwork", "Fired clay with slate, plain and solid", "Trebuchet MS", "Arial",
     "FFFFFF F7F2EF 2A211D 635149 A63A1F FFFFFF 2D5B73 DCCFC8"),
    ("newsprint", "Ink on paper, one red for what matters", "Times New Roman", "Georgia",
     "FAF9F5 EFEDE5 161616 525252 161616 FFFFFF B3141C CBC8BD"),
    ("lavender-field", "Soft violets with a green counterpoint", "Trebuchet MS", "Verdana",
     "FCFBFF F2EEFA 241C36 5C5273 6238A8 FFFFFF 1E6E57 D5CCE8"),
    ("clinic", "Cool teal, much air, for data and instructions", "Arial", "Arial",
     "FFFFFF EEF7F7 10262A 46606A 0B6B75 FFFFFF A1355F C4DCDD"),
    ("sandstone", "Ochre and deep teal on pale sand", "Georgia", "Trebuchet MS",
     "FBF6EC F1E8D6 2B2318 62543D 7E5410 FFFFFF 0F5F66 D8C9A9"),
    ("night-watch", "Ice blue and amber on near black", "Arial", "Arial",
     "0F151C 19222C E6EDF3 A3B1BF 6CB6FF 08131F F0A83C 35424F"),
    ("ember", "Glowing coral on charcoal", "Georgia", "Verdana",
     "191514 251F1D F4EAE4 BFAEA4 FF8A5C 1F0E07 E9C46A 463B37"),
    ("aurora", "Mint and orchid on deep indigo", "Trebuchet MS", "Arial",
     "12132B 1C1E3D ECEBFA ABADD0 6FE3B4 06231A E59AE8 3A3D68"),
)  # fmt: skip


def themes() -> Mapping[str, Theme]:
    """All ten by name."""
    return {row[0]: _theme(*row) for row in ROWS}


def _theme(name: str, about: str, heading: str, body: str, colors: str) -> Theme:
    named = dict(zip(NAMES, colors.split(), strict=True))
    fonts = {"heading_font": heading, "body_font": body}
    return Theme(name=name, about=about, colors=Colors(**named), **fonts)
