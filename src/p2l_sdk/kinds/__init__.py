"""A P2L model from leaderboards by kind of prompt, without a vote.

Each file knows those above it:

    difficulty    shares of right answers -> how often one LLM is right where another is wrong
    ratings       tables of ratings, or of scores per benchmark -> coefficients by kind
    prompts       prompts of known kind
    recogniser    a prompt's vector -> how much it is of each kind
    base          the text model below: its vectors of prompts, and a folder with a new head
    build         all of it: `build_model`
    card          the built model's card

The rows of the last layer are made by `editing.rated`, as for `P2L.add_model(name, ratings=...)`.
"""

from p2l_sdk.kinds.build import BuiltKind, BuiltModel, build_model
from p2l_sdk.kinds.prompts import KindPrompts
from p2l_sdk.kinds.ratings import KindRatings

__all__ = ["BuiltKind", "BuiltModel", "KindPrompts", "KindRatings", "build_model"]
