"""prov"""
from enum import Enum
from math import log, sqrt, inf
from typing import NamedTuple
import numpy as np
from proxy.experiment.simulate.books import *
from proxy.experiment.simulate.gates import Arms

class Move(Enum):
    STAY=0; ON=1; STOP=2
class Decision(NamedTuple):
    move: Move
    gate: str
def k(a): return -2*log(a)+log(1-2*log(a))
def half(V,n,a,N=1500):
    q=n*k(2*a)/N
    return sqrt(V*2*(q+1)/q*log(1+sqrt(q+1)/(2*a)))
ROWS={"success":FAILED,"first_attempt":FIRST_FAILED,"latency_p95":SLOW,"latency_mean":LATENCY,"cost":COST}
def decide(books, rollout, soaked):
    gates=rollout.gates
    guard=sum(1 for n in type(gates).model_fields if (g:=getattr(gates,n)) and g.kind=="guardrail")
    stages=[s for s in books.stages]
    n=int(np.count_nonzero(np.sum([s.sums[REQUESTS] for s in stages],axis=0)))
    allpass=True
    users=books.users
    step=rollout.plan[len(books.stages)-1]
    for name,row in ROWS.items():
        g=getattr(gates,name)
        if g is None: continue
        if users[0]<g.min.users or users[1]<g.min.users: allpass=False; continue
        arms=Arms(stages,row)
        if name in("latency_mean","cost"):
            m=log(1+g.margin); e=arms.log_ratio(); v0=vm=e.variance
        else:
            m=abs(g.margin); e=arms.difference(0.0); v0=e.variance; vm=arms.difference(m).variance
            ev=[sum(int(np.count_nonzero(s.sums[row,:s.threshold])) for s in stages), sum(int(np.count_nonzero(s.sums[row,s.threshold:])) for s in stages)]
            if min(ev)<10: allpass=False; continue
        if g.kind=="guardrail" and e.value-half(v0,n,.05/guard)>0 and e.value>m: return Decision(Move.STOP,name)
        if not e.value+half(vm,n,.05)<m: allpass=False
    g=gates.fallback_rate
    if g:
        t=[s.sums[:,:s.threshold] for s in stages]
        y=sum(a[RESCUED].sum() for a in t); N=sum(a[REQUESTS].sum() for a in t)
        r=y/max(N,1)
        psi=np.zeros(BUCKETS)
        for s in stages: psi[:s.threshold]+=s.sums[RESCUED,:s.threshold]-r*s.sums[REQUESTS,:s.threshold]
        v=float(psi@psi)/max(N,1)**2
        kk=int(np.count_nonzero(t[-1][REQUESTS]))
        if kk>1 and v>0:
            h=half(v,kk,.05)
            if r-half(v,kk,.05/guard)>g.max: return Decision(Move.STOP,"fallback_rate")
            if r+h>=g.max: allpass=False
        elif kk<=1: allpass=False
    if soaked<step.soak or min(users)<step.min.users: return Decision(Move.STAY,"")
    return Decision(Move.ON if allpass else Move.STAY,"")
