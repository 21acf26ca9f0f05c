"""The camera pose corrected against measured depth, within its covariance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from vos_ros.geometry import se3
from vos_ros.types import Intrinsics, MapObject


@dataclass(frozen=True, eq=False, slots=True)
class Alignment:
    T_map_camera: np.ndarray
    pose_cov: np.ndarray
    residual_before_m: float
    residual_after_m: float
    inliers: float
    accepted: bool
    reason: str


CELL = 4
MAX_POINTS = 3000
N_EFF = 150.0
HYP = 256
TOP = 3


class Grid:
    def __init__(self, depth, K, cell):
        self.cell = cell
        h, w = depth.shape
        z = depth[cell // 2 :: cell, cell // 2 :: cell].astype(np.float32)
        z = np.where(np.isfinite(z) & (z > 0), z, 0).astype(np.float32)
        self.z = z
        self.fx, self.fy = K.fx / cell, K.fy / cell
        self.cx, self.cy = (K.cx - cell // 2) / cell, (K.cy - cell // 2) / cell
        hh, ww = z.shape
        self.shape = z.shape
        X = (np.arange(ww, dtype=np.float32)[None] - self.cx) / self.fx * z
        Y = (np.arange(hh, dtype=np.float32)[:, None] - self.cy) / self.fy * z
        V = np.stack([X, Y, z], -1)
        self.V = V
        dx = np.zeros_like(V); dy = np.zeros_like(V)
        dx[:, 1:-1] = V[:, 2:] - V[:, :-2]
        dy[1:-1] = V[2:] - V[:-2]
        n = np.cross(dx, dy)
        L = np.linalg.norm(n, axis=-1)
        tol = 0.05 * z + 0.02
        ok = (L > 1e-12) & (z > 0) & (np.abs(dx[..., 2]) < tol * 2) & (np.abs(dy[..., 2]) < tol * 2)
        ok[:, 1:-1] &= (z[:, 2:] > 0) & (z[:, :-2] > 0)
        ok[1:-1] &= (z[2:] > 0) & (z[:-2] > 0)
        ok[0] = ok[-1] = False; ok[:, 0] = ok[:, -1] = False
        n = n / np.maximum(L, 1e-12)[..., None]
        self.N = np.where((n[..., 2] > 0)[..., None], -n, n).reshape(-1, 3)
        self.ok = ok.ravel()
        self.Vf = V.reshape(-1, 3)
        self.zf = z.ravel()


def _select(points, owner, T, K, depthshape, rng_stride=MAX_POINTS, margin=0.15, cell=4):
    """visible points from the prior pose, balanced over objects"""
    c = (points - T[:3, 3].astype(np.float32)) @ T[:3, :3].astype(np.float32)
    z = c[:, 2]
    ok = z > 0.1
    zz = np.where(ok, z, 1)
    u = c[:, 0] / zz * K.fx + K.cx
    v = c[:, 1] / zz * K.fy + K.cy
    mw, mh = margin * K.width, margin * K.height
    ok &= (u > -mw) & (u < K.width + mw) & (v > -mh) & (v < K.height + mh)
    idx = np.flatnonzero(ok)
    W = int((K.width + 2 * mw) / cell) + 2
    H = int((K.height + 2 * mh) / cell) + 2
    a = ((u[idx] + mw) / cell).astype(np.int64)
    b = ((v[idx] + mh) / cell).astype(np.int64)
    flat = b * W + a
    zi = z[idx]
    zb = np.full(W * H, 1e9, np.float32)
    np.minimum.at(zb, flat, zi)
    zb2 = cv2.erode(zb.reshape(H, W), np.ones((3, 3), np.uint8)).ravel()
    front = (zi == zb[flat]) & (zi < zb2[flat] + 0.1)
    idx = idx[front]
    who = owner[idx]
    # balance: at most q points per object
    counts = np.bincount(who)
    n = np.count_nonzero(counts)
    if n == 0:
        return idx
    q = MAX_POINTS
    lo, hi = 1, max(int(counts.max()), 1)
    while lo < hi:
        m = (lo + hi + 1) // 2
        if np.minimum(counts, m).sum() <= MAX_POINTS: lo = m
        else: hi = m - 1
    q = lo
    order = np.argsort(who, kind="stable")
    so = who[order]
    first = np.r_[0, np.cumsum(counts)][so]
    rank = np.arange(len(so)) - first
    c_ = counts[so]
    keep = (c_ <= q) | ((rank * q) // c_ != ((rank - 1) * q) // c_)
    return idx[np.sort(order[keep])]


def _lookup(g, c):
    z = c[..., 2]
    ok = z > 0.1
    zz = np.where(ok, z, 1)
    u = np.rint(c[..., 0] / zz * g.fx + g.cx)
    v = np.rint(c[..., 1] / zz * g.fy + g.cy)
    h, w = g.shape
    ok &= (u >= 0) & (u < w) & (v >= 0) & (v < h)
    f = np.where(ok, v * w + u, 0).astype(np.int32)
    return ok, f


def _cost(g, pts, T, tol0=0.03, tol2=0.01, scale=1.0, unknown=0.6, occl=0.8, free=1.0):
    """mean robust cost of hypotheses T (k,4,4)"""
    R = T[:, :3, :3].astype(np.float32); t = T[:, :3, 3].astype(np.float32)
    c = np.einsum("nj,kji->kni", pts, R) - np.einsum("kj,kji->ki", t, R)[:, None]
    ok, f = _lookup(g, c)
    z = c[..., 2]
    m = g.zf[f]
    r = z - m
    tol = (tol0 + tol2 * z * z) * scale
    q = np.minimum((r / tol) ** 2, 1.0)
    q = np.where((q >= 1) & (r > 0), occl, q)
    q = np.where(ok & (m > 0), q, unknown)
    return q.mean(1)


def _refine(g, pts, T, T0, Lam, scales, n_eff=N_EFF):
    d0 = None
    A = Lam
    for s in scales:
        R = T[:3, :3]; t = T[:3, 3]
        c = (pts - t) @ R
        ok, f = _lookup(g, c)
        ok &= g.ok[f]
        c, f = c[ok], f[ok]
        V = g.Vf[f].astype(np.float64); n = g.N[f].astype(np.float64)
        r = np.einsum("ij,ij->i", n, V - c)
        sig = (0.01 + 0.004 * c[:, 2] ** 2)
        k = r / (sig * s)
        dist = np.abs(V[:, 2] - c[:, 2])
        w = np.where(np.abs(k) < 1, (1 - k * k) ** 2, 0) * (dist < sig * s * 3)
        J = np.concatenate([n @ R.T, np.cross(V, n) @ R.T], 1)
        wi = w / sig**2 * (n_eff / len(pts))
        A = (J * wi[:, None]).T @ J + Lam
        b = -(J * wi[:, None]).T @ r - Lam @ se3.difference(T, T0)
        dx = np.linalg.solve(A, b)
        T = se3.perturb(T, dx)
        if np.linalg.norm(dx[:3]) < 5e-4 and np.linalg.norm(dx[3:]) < 3e-4 and s == scales[-1]:
            break
    return T, A


_Z = np.random.default_rng(1).standard_normal((1024, 6))


def align(objects, T_map_camera, pose_cov, depth, K):
    pts = np.concatenate([o.points for o in objects])
    owner = np.repeat(np.arange(len(objects)), [len(o.points) for o in objects])
    T0 = T_map_camera
    Lam = np.linalg.inv(pose_cov)
    g = Grid(depth, K, CELL)
    idx = _select(pts, owner, T0, K, depth.shape)
    if len(idx) < 50:
        return Alignment(T0, pose_cov, 0, 0, 0, False, "few points")
    p = pts[idx]
    p64 = p.astype(np.float64)
    sub = p[:: max(1, len(p) // 700)]
    T1, A = _refine(g, p64, T0, T0, Lam, [30, 20, 12])
    cov = np.linalg.inv(A)
    # hypotheses from posterior around T1
    L = np.linalg.cholesky(cov)
    deltas = _Z[:HYP] @ L.T
    hyp = np.stack([T1, T0] + [se3.perturb(T1, d) for d in deltas])
    lam_cost = np.array([0.5 * (lambda e: e @ Lam @ e)(se3.difference(h, T0)) for h in hyp]) / N_EFF
    cost = _cost(g, sub, hyp, scale=2.0) + lam_cost
    best = np.argsort(cost)[:TOP]
    cands = []
    for b in best:
        T, A = _refine(g, p64, hyp[b], T0, Lam, [12, 8, 5, 4, 3, 3])
        cands.append((T, A))
    fin = np.stack([c[0] for c in cands] + [T0])
    e = np.array([0.5 * (lambda e: e @ Lam @ e)(se3.difference(h, T0)) for h in fin]) / N_EFF
    fc = _cost(g, p, fin) + e
    k = int(np.argmin(fc[:-1]))
    if fc[k] < fc[-1]:
        T, A = cands[k]
        T, A = _refine(g, p64, T, T0, Lam, [3] * 4)
        return Alignment(T, np.linalg.inv(A), fc[-1], fc[k], 0, True, "")
    return Alignment(T0, pose_cov, fc[-1], fc[k], 0, False, "no gain")
