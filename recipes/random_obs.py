"""From a recording of random behaviour, without actions, to a policy.

    python -m recipes.random_obs --env InvertedPendulum

records random behaviour, drops the actions, learns Q(s,s') and a proposal τ(s) offline (D3G),
fits an inverse dynamics model I(s,s') on a few online steps, and evaluates π(s) = I(s, s + τ(s)).
`qss train` does the same with a recording that is there already.
"""

from qss_offline.cli.command import main
from qss_offline.cli.training import random_obs

if __name__ == "__main__":
    main(random_obs)
