"""Skills behind the walls that they run behind in a stack: what they state is enough for them."""

import pytest

from ai_stack.sandbox import Kernel, Sandbox, find_sandbox
from ai_stack.services.skills.apart import Apart
from ai_stack.services.skills.execution import Place, order_of, run_folders
from ai_stack.skill.discovery import OURS, discover_skills
from ai_stack.skill.manifest import Permissions
from skills import Example, differences, examples

SKILLS = {
    name: skill
    for name, skill in discover_skills().items()
    if skill.acts and skill.manifest.permissions.isolation == "apart"
}
FIRST = [examples(name)[0] for name in SKILLS]
WALLS = {wall.name: wall for wall in (find_sandbox(), Kernel())}


def test_the_strongest_wall_is_here() -> None:
    """The test command brings bubblewrap; without it half of these tests would not be here."""
    assert "bubblewrap" in WALLS


@pytest.mark.parametrize("wall", WALLS.values(), ids=WALLS)
@pytest.mark.parametrize("example", FIRST, ids=str)
async def test_it_works_behind_the_wall(example: Example, wall: Sandbox) -> None:
    permissions = SKILLS[example.skill].manifest.permissions
    if permissions.wall == "bubblewrap" and not wall.walls:
        return  # it is not ready there, which the catalog's own test shows
    async with run_folders() as place:  # their short paths matter to browsers
        await run_behind(wall, example, permissions, place)


async def run_behind(
    wall: Sandbox, example: Example, permissions: Permissions, place: Place
) -> None:
    folder = OURS / example.skill
    order = order_of(folder, permissions, place, [folder / "examples"], example.parameters)
    answer = await Apart(wall).run(order, permissions.time_s)
    assert differences(example.output, answer["output"]) == []
    assert sorted(p.name for p in place.folder.iterdir()) == sorted(example.artifacts)
