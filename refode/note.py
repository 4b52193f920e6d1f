r"""The items of the note, each in its corrected form: displays D, prose claims P, errata E.

Notation: ∇₁, ∇₂, ∇₃ are the derivatives by z, t, θ (the note's ∇_§1, ∇_§2, ∇_§3), a₁, a₂, a₃ the blocks of the
adjoint; s_ε is the solve map, L the loss, ℒ the loss-to-go, M = [∇₁f ∇₂f ∇₃f; 0; 0]; τ = tr ∇₁f; ℓ = log p*;
"det" is det ∇₁(s_ε[§1]). An erratum reads "as printed in our copy -> as it should be". Our copy was converted
from a PDF by a machine, so some errata may be the conversion's.
"""

import re
from dataclasses import dataclass

_NOTE = r"""
§1
D01  h_{k+1} = h_k + (T/N) f(h_k, kT/N, θ), k = 0..N−1: a layer is an Euler step [E01]
D02  dh/dt = f(h(t), t, θ)
P01  residual networks, recurrent networks and normalizing flows have the form of D01, layer by layer
P02  the limit N → ∞ of D01, with T fixed and the step T/N, is D02 [E01]
P03  h(T) solves an initial value problem: any ODE solver finds it, to its tolerance
E01  h_{t+1} = h_t + f, with ever more steps -> h_{k+1} = h_k + (T/N) f(h_k, kT/N, θ), N → ∞

§2
P04  backpropagation through N solver steps keeps an amount that grows like N
P05  the memory of the adjoint method does not depend on the number of solver steps [E19 E20]
P06  its price is one more ODE solve: n numbers forward, 2n + m backward

§2.1
D03  r_t = R(t) = (Z(t), T(t), Θ(t)) = (z_t, t, θ)
D04  s_Δt(z_t, t, θ) = (z_{t+Δt}, t + Δt, θ) = (z_t + ∫_t^{t+Δt} f du, t + Δt, θ) [E02 E04]
D05  s_→t1(z_t, t, θ) = s_{t1−t}(z_t, t, θ) = (z_t + ∫_t^t1 f du, t1, θ) [E03]
D06  L(r) = L(z, t, θ) = L(z): the loss reads the state only [E22]
D07  ℒ(z_t, t, θ) = L(s_→t1(z_t, t, θ)), the loss-to-go
D08  wanted: ∇₃ℒ(z_t0, t0, θ)
P07  r = (z, t, θ) has n + 1 + m entries
P08  T is the identity and Θ a constant: dT/dt = 1, dΘ/dt = 0
P09  s_Δt carries r_t to r_{t+Δt}, for Δt of either sign, and s_u ∘ s_v = s_{u+v} [E04]
P10  L usually reads z only; a regularised L reads θ too [E22]
P11  ∇₃ℒ is the gradient by θ, at fixed z and t
E02  s_Δt(z_t, t, θ) = (z_{t+Δ}, t, θ) -> (z_{t+Δt}, t + Δt, θ)
E03  second slot of s_→t1: t + Δt -> t1
E04  Δt ≥ 0 -> either sign: the solve maps form a group, and the backward solves need it

§2.2
D09  a(t) = ∇ℒ(z_t, t, θ), a row
D10  a(t) = ∇ℒ(R(t)) = ∇L(s_→t1(R(t))) ∇s_→t1(R(t)) [E05 E06]
D11  a = (∇ℒ) ∘ R = (∇(L ∘ s_→t1)) ∘ R; the derivative of ℒ ∘ R itself is 0 [E05]
D12  a₃(t0) = a(t0)[:, §3] = ∇ℒ(z_t0, t0, θ)[:, §3] = ∇₃ℒ(z_t0, t0, θ)
D13  Theorem 1: da/dt = −a M, M = [∇₁f ∇₂f ∇₃f; 0; 0], for f in C¹ [E09]
D14  da₁/dt = −a₁ ∇₁f, and likewise da₂/dt = −a₁ ∇₂f [E08]
D15  da₃/dt = −a₁ ∇₃f [E08]
D16  da/dt = lim (a(t+ε) − a(t)) / ε as ε → 0 [E07]
D17  ℒ(z_t, t, θ) = ℒ(z_{t+ε}, t + ε, θ), for ε of either sign [E11]
D18  ℒ = ℒ ∘ s_ε, for ε of either sign [E04 E11]
D19  ∇ℒ(z_t, t, θ) = ∇ℒ(s_ε(z_t, t, θ)) ∇s_ε(z_t, t, θ)
D20  ∇ℒ(z_t, t, θ) = ∇ℒ(z_{t+ε}, t + ε, θ) ∇s_ε(z_t, t, θ)
D21  a(t) = a(t+ε) ∇s_ε(z_t, t, θ)
D22  s_ε(z_t, t, θ) = (z_t + ∫_t^{t+ε} f du, t + ε, θ) = (z_t + ε f + O(ε²), t + ε, θ)
D23  s_ε(z_t, t, θ) = (z_t, t, θ) + ε (f, 1, 0) + O(ε²)
D24  ∇s_ε = I + ε M + O(ε²), for f in C² [E09 E10]
D25  a(t) = a(t+ε) + ε a(t+ε) M + O(ε²) [E09]
D26  (a(t+ε) − a(t)) / ε = −a(t+ε) M + O(ε) [E09]
D27  da/dt = −a M [E09]
D28  backward from t1, together: dz/dt = f, da₁/dt = −a₁ ∇₁f, da₃/dt = −a₁ ∇₃f [E20]
D29  z_t0 = z_t1 + ∫_t1^t0 f dt
D30  a₁(t0) = a₁(t1) − ∫_t1^t0 a₁(t) ∇₁f dt [E13]
D31  a₃(t0) = a₃(t1) − ∫_t1^t0 a₁(t) ∇₃f dt [E13]
D32  a₁(t1) = ∇₁ℒ(z_t1, t1, θ) = ∇L(z_t1)
D33  a₃(t1) = ∇₃ℒ(z_t1, t1, θ) = ∇₃L, 0 if L has no θ; but a₂(t1) = −∇L f [E08 E22]
D34  q(t1) = (z_t1, (∇L(z_t1))ᵀ, 0), a column of 2n + m [E14 E15]
D35  dq/dt = (f, −(∇₁f)ᵀ q₂, −(∇₃f)ᵀ q₂), f and its derivatives at (q₁, t, θ) [E16]
P12  a maps a time to a row of n + 1 + m entries
P13  da/dt is given by a and f, in all three blocks [E08]
P14  D17 holds for every ε, past t1 and backward too [E11]
P15  the neural ODE is solved forward, from r_t0 to r_t1 [E12]
P16  nothing is saved: z_t is found again from z_t1, as far as the reversed ODE is stable [E20]
P17  a₃(t1) = 0 follows from an L without θ; otherwise a₃(t1) = ∇₃L [E22]
P18  the values at t1 need ∇L alone
P19  a solver needs the initial state and the derivative, a time span and tolerances [E21]
P20  q has n + n + m entries
P21  the lower blocks of dq/dt are vector-Jacobian products, gradients of a·f [E17]
P22  a VJP costs a small multiple of f: about 2 in z, 3 in z and θ
P23  no backpropagation through the solver; the price is a gap of the solver's order [E21]
P24  one reverse-mode pass through f gives a₁ ∇₁f and a₁ ∇₃f; it keeps f's intermediates [E18]
P25  memory does not grow with the solver's steps, but does with the layers of f [E19]
E05  a = ℒ ∘ R, a scalar -> a = (∇ℒ) ∘ R, a row
E06  L(s_→t, (R(t))) -> ∇L(s_→t1(R(t))) ∇s_→t1(R(t))
E07  lim (a(t+ε) + a(t)) / ε -> lim (a(t+ε) − a(t)) / ε
E08  "in particular" skips block 2 -> da₂/dt = −a₁ ∇₂f, a₂(t1) = −∇L f; a₁ f + a₂ = 0 at all t
E09  Theorem 1 without hypotheses -> f in C¹; C² or Lipschitz ∇f for the O(ε²) of D24 to D26
E10  derivative of O(ε²) taken for O(ε²) -> variational equation ∂_ε ∇₁s_ε = ∇₁f(s_ε) ∇₁s_ε
E11  ε > 0 with t + ε < t1, a right derivative only -> ε of either sign, t1 no bound
E12  neural SDE -> neural ODE
E13  a₁(z_t, t, θ) -> a₁(t)
E14  egin{bmatrix}, abla, ig( and a single \ -> \begin{bmatrix}, \nabla, \big(, \\
E15  ∇(L(z_t1))ᵀ, still a row -> (∇L(z_t1))ᵀ, a column
E16  −q₂ᵀ ∇₁f and −q₂ᵀ ∇₃f, rows in a column -> −(∇₁f)ᵀ q₂ and −(∇₃f)ᵀ q₂
E17  VJPs called directional derivatives -> the VJP a ∇f is the gradient of a·f; directional is ∇f v
E18  forward-mode -> reverse-mode
E19  memory independent of the network's depth -> of the solver's steps; f keeps one activation a layer
E20  save nothing and solve back -> only as far as the reversed ODE is stable
E21  any black-box solver -> its gradient is not the discrete computation's: a gap of the solver's order
E22  a₃(t1) = 0 -> ∇₃L if L reads θ; with observations at several times a jumps by ∇L_i

§3.1
D36  z_1 = g_1(z_0)
D37  p_1(z_1) = p_0(z_0) / |det ∇g_1(z_0)| [E23]
D38  log p_1(z_1) = log p_0(z_0) − log |det ∇g_1(z_0)| [E23]
D39  z_k = (g_k ∘ … ∘ g_1)(z_0)
D40  log p_k(z_k) = log p_0(z_0) − Σ_j log |det ∇g_j(z_{j−1})|, the note's (1) [E23 E24]
D41  mean_i log p_k(z_k,i) = mean_i (log p_0(z_0,i) − Σ_j log |det ∇g_j(z_{j−1,i})|) [E23 E25 E26]
P26  p_data is approximated by p_k, whose parameters maximise D41
P27  z_{k−1}, z_{k−2}, …, z_0 by the inverses of g_k, …, g_1 in this order [E27]
P28  the density of a data point z_k by the inverses and D40 [E28 E29]
P29  z_0 ~ p_0 and g_1, …, g_k in order give z_k ~ p_k
P30  each g_j should be easy to invert, its determinant easy to compute and to differentiate
E23  one letter p for all densities -> p_0(z_0), p_1(z_1), …, p_k(z_k)
E24  Σ_j |det ∇g_j| -> Σ_j log |det ∇g_j|
E25  in the likelihood, Σ_j |det ∇g_j| -> Σ_j log |det ∇g_j|
E26  (1/N) log p(z_0,i), i free -> (1/N) Σ_i log p(z_0,i)
E27  z_{k−1}, z_{k−1}, …, z_0 -> z_{k−1}, z_{k−2}, …, z_0
E28  data point p_k -> z_k
E29  probability -> probability density, which may exceed 1

§3.2
D42  z_{t+1} = g_{t+1}(z_t) = z_t + f(z_t, t, θ)
D43  dz/dt = f(z(t), t, θ) [E31]
D44  Theorem 2: d log p(z_t)/dt = −tr ∇₁f(z_t, t, θ), for f in C¹ in z [E29 E32 E33]
D45  z_{t+ε} = s_ε(z_t, t, θ)[§1]
D46  log p(z_{t+ε}) = log p(z_t) − log |det ∇₁(s_ε[§1])| [E36]
D47  d log p(z_t)/dt = lim (log p(z_{t+ε}) − log p(z_t)) / ε = −lim log |det| / ε [E36 E37]
D48  d log p(z_t)/dt = −lim (∂_ε log |det|) / (∂_ε ε), by L'Hospital's rule [E36 E37]
D49  d log p(z_t)/dt = −lim (∂_ε |det|) / |det| [E36 E37]
D50  d log p(z_t)/dt = −(lim ∂_ε |det|) / (lim |det|) = −lim ∂_ε |det| [E10 E36 E37]
D51  d log p(z_t)/dt = −lim ∂_ε det [E36 E37]
D52  d log p(z_t)/dt = −lim tr(adj(∇₁s_ε) ∂_ε ∇₁s_ε) = −tr(lim adj · lim ∂_ε ∇₁s_ε) [E36 E37]
D53  d log p(z_t)/dt = −tr(lim ∂_ε ∇₁s_ε) = −tr ∇₁f [E10 E36 E37]
D54  ∇₁f_1, ∇₁f_2, …, ∇₁f_n: the i-th entry of the i-th, summed, is tr ∇₁f [E38]
P31  the number of layers N → ∞, the step → 0, [t0, t1] fixed: the limit is D43 [E30]
P32  Theorem 2 wants f uniformly Lipschitz in z, continuous in t, and C¹ in z [E33]
P33  for a Lipschitz f every initial value problem has one solution (Picard)
P34  ‖∇₁s_ε‖ ≤ exp(K ε), K the Lipschitz constant; z_t may be unbounded [E34]
P35  s_ε is bijective, for every ε [E35]
P36  s_ε → id and |det| → 1 as ε → 0, by the variational equation [E10]
P37  det > 0, so the absolute value may go
P38  L'Hospital's rule applies: log |det| → 0 and ε → 0
P39  adj(∇₁s_ε) → I as ε → 0
P40  the exact trace costs about n times f for a generic f; less where its form helps [E39]
P41  n VJPs or JVPs give the exact trace [E39]
P42  Hutchinson: v·∇₁f v is an unbiased estimate of tr ∇₁f, one VJP or JVP a probe [E40]
E30  limit as t ← ∞ -> number of steps N → ∞, step → 0, [t0, t1] fixed
E31  f(z, t, θ) -> f(z(t), t, θ)
E32  uninformly; finite continuous random variable -> uniformly; random variable with a density
E33  f Lipschitz in z, continuous in t -> and C¹ in z, so that ∇₁f exists
E34  z_t assumed bounded -> not needed: ‖∇₁s_ε‖ ≤ exp(K ε)
E35  ε so small that s_ε is bijective -> bijective for every ε
E36  det and adj of ∇₁s_ε, which is (n+1+m) x n -> of ∇₁(s_ε[§1]), n x n
E37  d log p(z)/dt -> d log p(z_t)/dt, along the trajectory
E38  ∇f_1, ∇f_1, …, ∇f_n -> ∇f_1, ∇f_2, …, ∇f_n
E39  "the best we can do", n evaluations -> n VJPs or JVPs of a generic f; small MLPs have cheap formulas
E40  unbiased in one evaluation -> one VJP or JVP a probe; unbiased for log p, biased for p

§3.3
D55  z_t1 = z_t0 + ∫_t0^t1 f dt [E41]
D56  (z_t1, log p(z_t1)) = (z_t0, log p(z_t0)) + ∫_t0^t1 (f, −τ) dt
D57  (z_t0, log p(z_t0) − log p(z_t1)) = (z_t1, 0) + ∫_t1^t0 (f, −τ) dt
D58  backward from (z_t1, 0): d/dt (z_t, log p(z_t) − log p(z_t1)) = (f, −τ)
D59  p*(z, t, θ) is the density at z of Z(t; ζ, θ), ζ ~ p_t0; z, t, θ are independent [E44]
D60  ∇₁p*(z_t0, t0, θ) = ∇p_t0(z_t0) [E45]
D61  ∇₁log p*(z_t0, t0, θ) = ∇p_t0(z_t0) / p_t0(z_t0), at t0 only [E47]
D62  d/dt (z, ∇₁ℓ, ∇₃ℓ) = (f, −∇₁ℓ ∇₁f − ∇₁τ, −∇₁ℓ ∇₃f − ∇₃τ) [E48 E49 E50 E51]
D63  at t0: (z_t0, ∇p_t0(z_t0) / p_t0(z_t0), 0) [E52]
P43  the base density is fixed: ∇_θ log p_t0 = 0 [E52]
P44  sampling is z_t0 ~ p_t0 and one forward solve [E41]
P45  one solve from (z_t1, 0) back to t0 gives log p(z_t1)
P46  the gradient of log p is dearer than log p: it needs ∇τ [E42]
P47  wanted: the gradients of log p(z_t1) by z_t1, and by θ at fixed z_t1 [E43]
P48  p_t0(z_t0) and its gradient are simple [E46]
P49  Theorem 1 wants a function constant along trajectories: log p* minus the integral of −τ [E48]
P50  blocks 2 and 3 of D62 at t1 are the score and the θ-gradient, once corrected [E49 E50 E51 E52]
E41  p_t1 = p_t0 + ∫ f dt -> z_t1 = z_t0 + ∫ f dt
E42  the gradient is easier than log p -> dearer: it needs ∇τ
E43  ∇_{z_t} log p(z_t1) -> ∇_{z_t1} log p(z_t1)
E44  p*(z_t, t, θ) = p(z_t) -> p*(z, t, θ), the density at z at time t under θ
E45  ∇_81 -> ∇_§1
E46  p(z_0) -> p(z_t0)
E47  ∇₁log p*(z_t, t, θ) = ∇p(z_t0) / p(z_t0) -> at t = t0 only
E48  "Theorem 1 gives us" -> it does not apply: log p* changes along trajectories
E49  +∇₁ℓ ∇₁f and +∇₁ℓ ∇₃f -> −∇₁ℓ ∇₁f and −∇₁ℓ ∇₃f
E50  block 2 without the trace -> −∇₁ℓ ∇₁f − ∇₁τ
E51  block 3 without the trace -> −∇₁ℓ ∇₃f − ∇₃τ
E52  initial condition of two blocks -> the third is 0
E54  ullet -> \bullet

§3.4
P51  continuous planar flow: dz/dt = u h(w·z + b), d log p(z_t)/dt = −h′(w·z + b) w·u [E53]
E53  a heading without text -> the two formulas of P51

§1 to 3
E55  spelling throughout; letters with two meanings (T, ε), vectors set as scalars -> as meant
"""

# Symbols, spelling and conversion damage: nothing, or only a shape, to compute.
SMALL_PRINT = frozenset({"E14", "E28", "E31", "E32", "E45", "E46", "E54", "E55"})


@dataclass(frozen=True)
class Item:
    """A display, claim or erratum of the note; `errata` are the ids of the errata that concern it."""

    id: str
    section: str
    statement: str
    errata: tuple[str, ...]


def _read(text: str) -> dict[str, Item]:
    """The items by id, in the order D, P, E."""
    items = {}
    for block in text.strip().split("\n\n"):
        heading, *lines = block.splitlines()
        for line in lines:
            match = re.fullmatch(r"([DPE]\d\d)  (.+?)(?: \[(E\d\d(?: E\d\d)*)\])?", line)
            assert match, line
            id, statement, errata = match.groups()
            assert id not in items, id
            items[id] = Item(id, heading.removeprefix("§"), statement, tuple((errata or "").split()))
    return {id: items[id] for id in sorted(items, key=lambda id: ("DPE".index(id[0]), id))}


ITEMS = _read(_NOTE)


def concerned(erratum: str) -> tuple[str, ...]:
    """The ids of the displays and claims that an erratum concerns."""
    return tuple(item.id for item in ITEMS.values() if erratum in item.errata)
