"""How often an import looks whether the index has followed it."""

from ai_stack.services.imports import LONGEST_LOOK_S, LOOK_S, next_look_s


def test_an_import_looks_seldom_while_much_is_left_and_often_at_its_end() -> None:
    assert next_look_s(waiting=50, done=0, elapsed_s=0.0) == LOOK_S
    assert next_look_s(waiting=50, done=0, elapsed_s=5.0) == LONGEST_LOOK_S
    assert next_look_s(waiting=40, done=10, elapsed_s=1.0) == 1.0
    assert next_look_s(waiting=1, done=49, elapsed_s=5.0) == LOOK_S
