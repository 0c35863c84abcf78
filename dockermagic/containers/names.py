"""A name for a container that was given none: two words that a person can type and remember."""

from __future__ import annotations

import os

__all__ = ["random_name"]

_HOW = """
amber brisk calm clever cosy daring deft eager early fair fleet fond gentle glad golden happy hardy humble jolly keen
kind lively lucky merry mellow nimble noble patient plucky quick quiet ready rustic sharp silent smart snowy steady
sunny swift tidy true upbeat vivid warm wise witty young
"""
_WHO = """
badger beaver bison bittern camel carp crane curlew dolphin dove egret elk falcon ferret finch gecko goose grouse
hare heron ibex jackdaw jay kestrel lark lemur linnet lynx magpie marten mole moose newt otter owl panda pelican
pigeon plover quail raven robin salmon seal shrew stork swallow tapir tern thrush toad trout turtle vole walrus wren
"""
HOW, WHO = tuple(_HOW.split()), tuple(_WHO.split())


def random_name() -> str:
    """One of some thousand; whoever uses it asks whether it is taken."""
    how, who = os.urandom(2)
    return f"{HOW[how % len(HOW)]}_{WHO[who % len(WHO)]}"
