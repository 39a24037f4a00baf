"""The losses of the paper, one equation in one place. No I/O, no optimiser, no seed loop.

| in the paper | here |
|---|---|
| Eqs. 1 to 5, tables | `tabular/learners.py` |
| Eq. 6, the critics' loss | `qss.critic_loss` |
| Eq. 7, the target without the cycle | `d3g.D3G.td_target` of D3G⁻ |
| Eqs. 8 and 12, the proposal's loss | `qss.proposal_loss`; of D3G⁻ `D3G.proposal_loss` |
| Eq. 9, the policy | `d3g.D3G.policy_action`; of saved ones `evaluation/policies.py` |
| Eq. 10, the inverse dynamics model's loss | `inverse_dynamics.inverse_loss` |
| Eq. 11, the forward model's loss | `d3g.D3G.forward_loss` |
| Eq. 13, the target | `qss.td_target` |
| Eq. 14, the same without actions | `observational_d3g.ObservationalD3G.forward_loss` |
| Algorithm 2, the cycle C | `d3g.D3G.cycle`, `observational_d3g.cycle` |

What differs from the paper stands at the top of `d3g.py` and of `observational_d3g.py`.
"""
