function [baseMVA, bus, gen, branch, areas, gencost] = version1
baseMVA = 100;
bus = [
	1	3	0	0	0	0	1	1	0	110	1	1.05	0.95;
	2	1	40	15	0	0	1	1	0	110	1	1.05	0.95;
];
gen = [1	0	0	300	-300	1	100	1	400	0];
branch = [1	2	0.02	0.06	0.03	0	0	0	0	0	1];
areas = [1 1];
gencost = [2 0 0 2 1 0];
return;
