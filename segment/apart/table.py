"""The one table of constants of this folder: value, unit, why, source. No scan, phantom or device has constants of its own.

Sources: "M B.x" is section B.x of the trials kept beside the project (real thorax, lumbar spine and head, figures there);
"anatomy" is a size or angle of textbook anatomy with room on both sides; "default" was set here and is unverified elsewhere.
"""

from __future__ import annotations

# the work grid
WORK_MM = 1.0  # mm; joint spaces of facets and rib heads are 1 to 3 mm wide, and finer costs time by its cube; M B.2.4
WORK_SHARE = 0.5  # of the scan's coarsest spacing: a coarser scan gets two work voxels to one of its own; default
FINER_SHARE = 0.75  # a scan finer than this share of the work step is averaged 2 x 2 x 2, or its noise would alias; default

# body and bone
BODY_HU = -300.0  # half between air and fat; M B.2.1
BODY_COARSE_MM = 4.0  # grid on which the body is found: table and blankets are thinner than the opening, limbs thicker; default
BODY_OPEN_MM = 8.0  # radius; a table top is less than 16 mm thick with its foam being air, a forearm more; default
BODY_SHARE = 0.05  # of the largest part: smaller parts are no limb; default
BODY_MARGIN_MM = 6.0  # kept round the body, so that skin and its bones (shin, spinous processes) are inside; default
BODY_BONE_SHARE = 0.7  # of a large piece of bone lies in the body; where no piece does, they are dry bones in air; default
BARE_PIECE_MM3 = 10000.0  # what counts as large there; default
DRY_MARGIN_MM = 1.5  # round a dry bone, so that its thin edges are inside; default
METAL_SURE_HU = 2500.0  # enamel ends there; M B.2.1
METAL_HU = 2000.0  # the rim of such metal, only where it touches it: enamel alone is no metal; M B.2.1
METAL_RIM_MM = 2.0  # blooming round metal, masked with it; M B.2.1 (1 to 2 voxels)
METAL_CAP_HU = 900.0  # what filters see in place of metal: compact bone; M B.2.1
BONE_OVER_SOFT_HU = 120.0  # the low threshold over muscle at 1 mm: 160 to 200 HU in all; M B.2.1
BONE_LOSS_HU_PER_MM = 20.0  # and lower by this for every mm of slice or pixel over 1 mm (partial volume): 130 HU at 3 mm; M B.2.1
BONE_LEAST_OVER_SOFT_HU = 70.0  # never nearer to muscle: contrast and calcified lymph nodes; default
CORE_OVER_SOFT_HU = 250.0  # a piece of bone holds some voxels of at least 300 HU; M B.2.1
CORE_MM3 = 20.0  # at least so much of it; M B.2.1 (20 voxels of 1 mm)
PIECE_MM3 = 200.0  # smaller pieces are calcifications; M B.2.1
MASK_SIGMA_VOXELS = 0.6  # voxels; enough against noise, thin bone survives; M B.2.1

# the valley between two bones
VALLEY_MM = 1.0  # sigma; joint spaces are 1 to 3 mm wide; M B.2.4
VALLEY_CLIP_OVER_SOFT_HU = (
    -150.0,
    750.0,
)  # about -100 to 800 HU: neither air nor compact bone makes a valley of its own; M B.2.4

# the canal
CANAL_CELL_MM = 2.0  # places tried; the canal is 13 mm wide and more; M B.2.2
CANAL_SOFT_RANGE_HU = (-70.0, 70.0)  # about soft tissue, -30 to 110 HU: cord and fluid; M B.2.2
CANAL_RAYS = 24  # M B.2.2
CANAL_NEAR_MM = 4.0  # a wall nearer than this is noise; anatomy (the canal's half width is 6 mm and more), M B.2.2
CANAL_FAR_MM = 17.0  # and none of its walls is further; anatomy, M B.2.2
CANAL_AIR_HU = -250.0  # a ray that meets lung ends; M B.2.2
CANAL_MEAN_MM = 9.0  # mean distance of the wall; anatomy, M B.2.2
CANAL_MEAN_WIDTH_MM = 5.0  # and its spread; M B.2.2
CANAL_SPREAD_MM = 8.0  # the wall's distance varies by less; M B.2.2
CANAL_REACH_CELLS = 2  # between sections: 2 cells of 2 mm over 2 mm is 63 degrees; M B.2.2
CANAL_BACK_PENALTY = 0.03  # per cell squared, front-back; M B.2.2
CANAL_SIDE_PENALTY = 0.25  # per cell squared, sideways; M B.2.2
CANAL_SIDE_FREE_MM = 12.0  # sideways off the body's median canal without a penalty; M B.2.2
CANAL_SIDE_SIGMA_MM = 18.0  # and how fast it then fades; scoliosis stays possible; M B.2.2
CANAL_LEAST_SCORE = 0.1  # the canal ends where the score is below this ...; M B.2.2
CANAL_END_MM = 20.0  # ... over this length; M B.2.2
CANAL_SHORTEST_MM = 40.0  # a shorter one is no spine; default
CANAL_SURE_SCORE = 0.3  # nor is one whose mean score is below this; default
CANAL_TURN_MM = 6.0  # sigma of smoothing its course: a vertebra is 20 mm high and more; M B.2.2

# discs
PROFILE_HALF_MM = 8.0  # half width of the middle strip of a vertebral body that is looked at; anatomy, M B.2.3
PROFILE_LONG_MM = 70.0  # in front of the canal: no body ends further off; anatomy
PROFILE_SMOOTH_MM = 8.0  # sigma along the canal: a disc must not interrupt the body's wall (15 mm wide in M B.2.3)
PROFILE_MEDIAN_MM = 31  # mm along the canal, the body's walls: about one vertebra; M B.2.3
BODY_WALL_OVER_SOFT_HU = 55.0  # a body's mean is above it (110 HU at 1 mm, 100 at 3 mm); M B.2.3
BODY_WALL_GAP_MM = 4.0  # darker stretches of that length in the profile are marrow, longer ones its end; default
BODY_DEPTH_MM = (16.0, 44.0)  # front to back, from mid-thoracic to L5; anatomy
TILT_STEP_DEG = 4.0  # of the planes tried; M B.2.3
PITCH_DEG = (-32.0, 44.0)  # a disc against the canal, front end down positive: L5/S1 is the steep one; M B.2.3
ROLL_DEG = 8.0  # either way; M B.2.3
DISC_REACH_MM = 8.0  # endplates are looked for this far to both sides of a disc's middle; M B.2.3
DISC_CORE_MM = 1.0  # the darkest part of it, to both sides of the middle; M B.2.3 (three central planes)
DISC_CONTRAST_SHARE = 0.3  # of (mean of both endplates - middle) added to the weaker endplate's; M B.2.3
DISC_TILT_HU_PER_RAD = 40.0  # what a tilt costs; M B.2.3
DISC_TOP_PERCENTILE = 97.0  # scores are counted in this percentile of them; M B.2.3
DISC_NODE_COST = 0.35  # a disc in the chain must earn that much; M B.2.3
SPACING_MM = (12.0, 48.0)  # between neighbouring discs, from C3 to L5; anatomy
SPACING_CHANGE_MM = 5.0  # neighbouring vertebrae are alike to that; M B.2.3
SPACING_CHANGE_WEIGHT = 0.15  # M B.2.3
SIZE_RATIO = 0.9  # a vertebra's height with its disc over its depth; anatomy, M B.2.3
SIZE_RATIO_SPREAD = 0.25  # M B.2.3
SIZE_WEIGHT = 0.25  # without it, mid-vertebral "discs" enter the chain; M B.2.3
SIZE_DEPTH_MM = (18.0, 36.0)  # depth is held to it for that; M B.2.3
DISC_EDGE_MM = 8.0  # a disc nearer to the end of the scan is not believed; M B.2.3
MARCH_SPACING = (0.72, 1.25)  # of the last spacing: where the next disc may lie; M B.2.3
MARCH_TURN_DEG = 28.0  # off the last disc's normal, front-back; M B.2.3
MARCH_PITCH_DEG = (-20.0, 40.0)  # of the next disc against the last one, front end down positive (L5/S1); M B.2.3
MARCH_SPREAD_SHARE = 0.5  # of the values' spread in the gap, taken off the score: a disc is even; M B.2.3
MARCH_LEAST = 0.3  # of the median score of the discs already found; below, the march ends (S1/S2 had 0.05); M B.2.3
MARCH_EDGE_LEAST = 0.5  # the same at the end of the scan, where only the inner endplate is seen; default
MARCH_EDGE_TILT_HU_PER_RAD = 120.0  # what a turn costs there: one endplate alone does not show it; default
FAT_UNDER_SOFT_HU = 100.0  # nothing in a spine is darker than fat; textbook CT numbers

# cuts
COST_FROM_OVER_SOFT_HU = 50.0  # a cut through soft tissue is free: 100 HU; M B.2.4
COST_RANGE_HU = 400.0  # through compact bone it is dear: 500 HU; M B.2.4
COST_LEAST, COST_POWER = 0.03, 1.5  # M B.2.4
COST_VALLEY = 2.2  # how much a valley lowers the cost, per valley of the usual deep one; M B.2.4 (1.2 vertebrae, 2.2 ribs)
COST_VALLEY_PERCENTILE = 88.0  # of the valley within bone: the usual deep one; M B.2.4
COST_BASE = 0.01  # a longer cut is worse than a shorter one; M B.2.4

# vertebrae
SEED_RADIUS = 0.42  # of the depth: the body's own cylinder; M B.2.4
SEED_OFF_DISC_MM = 3.0  # from the plane of a disc; M B.2.4
PEDICLE_HEIGHT = (0.22, 0.42)  # of the spacing below the upper disc; M B.2.4
PEDICLE_SIDE_MM = (8.0, 17.0)  # off the midline; M B.2.4
PEDICLE_BACK_MM = 12.0  # behind the body's back wall; anatomy
CUT_SLAB_MM = 45.0  # to both sides of a disc: a thoracic spinous process hangs 40 mm; M B.2.4
WEAK_PULL = 0.02  # the tie of what lies far above or below the plane; M B.2.4
WEAK_ABOVE_MM, WEAK_BELOW_MM = 22.0, 30.0  # asymmetric: spinous processes hang down; M B.2.4
SPINE_SIDE_MM = 75.0  # off the canal: transverse processes and the inner ends of the ribs; anatomy
SPINE_FRONT_MM = 62.0  # in front of the canal: body and osteophytes; anatomy
SPINE_BACK_MM = 85.0  # behind it: spinous processes; anatomy
MODEL_LEVELS = 5  # with fewer vertebrae none serves as the model of another's arch; default

# ribs
RIB_SEED_MM = 40.0  # off the canal: bone outside belongs to a rib, when it goes on to ...; M B.1 (36 to 48 tried)
RIB_REACH_MM = 56.0  # ... here: transverse processes end before; anatomy
ARCH_SIDE_MM = 15.0  # the arch within this of the midline is spine; M B.2.4
CORE_LEVELS = (
    0.97,
    0.94,
    0.9,
    0.85,
    0.8,
    0.7,
    0.6,
)  # quantiles of the valley: bone below one falls into bones; M B.2.4 (0.6 to 0.9)
ARCH_FRONT_MM, ARCH_BACK_MM = 6.0, 75.0  # of the canal's middle; M B.2.4
RIB_END_MM = 4.0  # from an end of the scan, and that much further out: the rib goes on beyond it; default
RIB_CUT_MM = 60.0  # off the canal: further out a rib is a rib; anatomy
RIB_NECK_SIDE_MM = 17.0  # off the canal: further out than a pedicle's seed; anatomy, tried on the thorax (16 to 17)
RIB_NECK_FRONT_MM = 14.0  # in front of the canal's middle: heads reach so far, the bodies' walls further; anatomy
RIB_NECK_SLANT_MM = 20.0  # mm off to the side less mm behind: more than that in front of transverse processes; tried (18 to 24)
NECKLESS_RIBS = 2  # the last ones meet no transverse process; anatomy (ribs 11 and 12)
RIB_NECK_PULL = 0.04  # the tie of a voxel there to its rib; tried on the thorax (0.01 to 0.15: from 0.08 bodies lose their walls)
RIB_PIECE_MM3 = 1000.0  # a smaller piece is a calcified cartilage or a vessel; default

# pelvis
HIP_GRID_MM = 3.0  # of the places tried for the hip joint's centre; default
HEAD_SIDE_MM = (55.0, 130.0)  # of the centre from the midline; anatomy
HEAD_LEVEL_MM = 15.0  # left and right centres lie within this of each other's mirror image; anatomy
SOCKET_CLOSE_MM = 4.5  # marrow that opens through thin cortex is closed over this radius; default
SOCKET_DEPTH_MM = 10.0  # of the centre in the bone of head and socket together; anatomy (the head's radius is 20 mm and more)
SOCKET_RADIUS_MM = (26.0, 33.0)  # from the centre to the middle of the wall: head 20 to 27 mm, cartilage, half the wall; anatomy
SOCKET_OPENS = (-0.64, -0.27, 0.72)  # (up, back, outwards): 45 degrees down, 20 degrees to the front; anatomy
SOCKET_COSINE = 0.2  # directions nearer to the opening meet no wall; anatomy
SOCKET_WALL_MM = (4.0, 12.0)  # to both sides of the wall it is darker at this distance; tried on the 3 mm pelvis
SOCKET_MOST_HU = 120.0  # a brighter wall tells no more: metal, dense roof; tried on the 3 mm pelvis
SOCKET_LEAST_HU = 35.0  # mean ridge of a socket (60 seen); less is none; default
SOCKET_TO_HEAD_MM = 5.0  # from the wall's middle to the head's surface; M B.2.5
JOINT_SHELL_MM = 2.5  # half thickness of the shell round the head in which a cut is cheap; anatomy (cartilage of both bones)
JOINT_DISCOUNT = 0.25  # of the cost in that shell: shape where the grey values tell little; default
HEAD_CORE = 0.8  # of the radius: surely femur; default
HIP_CLEAR_MM = 5.0  # beyond the head's surface, above or inside it: surely hip bone; anatomy
SACRUM_SIDE_MM = 32.0  # off the canal: surely sacrum (body and inner half of the lateral mass); anatomy (joints at 40 to 55)
SACRUM_BACK_SIDE_MM = 24.0  # behind the canal, where the hip bones come nearer; anatomy
SACRUM_WALL_MM = 8.0  # behind the canal's middle begins that back part; anatomy
ILIUM_SIDE_MM = 58.0  # off the canal: surely hip bone; M B.2.4
SACRUM_FRONT_MM, SACRUM_BACK_MM = 45.0, 30.0  # of the canal: surely sacrum there; anatomy
SYMPHYSIS_MM = 3.0  # off the midline: surely left or right pubis; anatomy
PELVIS_BELOW_MM = 40.0  # bone goes on that far below the last disc when it is a sacrum; default
CREST_OVER_DISC_MM = 70.0  # no iliac crest rises higher over L5/S1; anatomy
PELVIS_BODY_MM = 25.0  # height of the first sacral body; anatomy
SHAFT_PIECE_MM3 = 3000.0  # a piece of a long bone or a hip cut off by the scan or by metal's shadow is larger; default

# labels
CLOSE_MM = 3.0  # a bone's own shell is closed over this before it is filled; M B.2.1 (2.4 to 3)
CLOSE_SHARE = 1.5  # of the scan's coarsest spacing, at least: a thin cortex has gaps of a voxel; tried on the 3 mm pelvis
HOLLOW_CLOSE_SHARE = (
    3.5  # the same for a sacrum: the shells of its lateral masses are the first to vanish; tried on the 3 mm pelvis
)
CANAL_FREE_MM = 7.0  # round the canal's middle nothing is filled; M B.2.1
LABEL_MM3 = 200.0  # a smaller piece gets no label; default
MOST_LABELS = 255  # values of a byte

# names
RIB_NEAR_MM = 45.0  # off the canal: a rib whose inner end is nearer belongs to a vertebra of the scan; anatomy
RIB_HEAD_NEAR_MM = 25.0  # and then its head is there; M B.1 (20 mm)
RIB_INNER_MM = 15.0  # of a rib from its inner end: what it touches there is its vertebra; anatomy
RIB_TOUCH_MM = 3.0  # joint spaces of a rib are thinner; anatomy
RIB_SECTION_MM2 = 260.0  # volume over length of a rib; a scapula, a hip or a long bone has more; anatomy
STERNUM_SIDE_MM = 20.0  # of its middle from the canal; anatomy
STERNUM_FRONT_MM = 60.0  # in front of the canal; anatomy
CHEST_AXIS_MM = 70.0  # in front of the canal: what a scapula is seen from; anatomy
SCAPULA_OVER_RIB_MM = 35.0  # a rib lies that near below a scapula; anatomy
# distance of a rib's head below the middle of the disc above its vertebra, mm, ribs 1 to 12; M B.2.6
HEAD_BELOW_DISC_MM = (2.3, 5.0, 5.0, 5.5, 5.5, 6.0, 6.5, 7.5, 9.0, 9.5, 11.0, 18.0)
HEADS_LEAST = 4  # ribs' heads of which the evidence speaks; default
CERTAIN_ANCHORS = 2  # that agree: transitional vertebrae and 11 or 13 pairs of ribs are common; M B.2.6

RIB_HANGS_MM = 60.0  # below the upper end of its vertebra a 12th rib is seen; anatomy
LUMBAR_LEAST = 4  # vertebrae over a sacrum that bear no ribs (5 as a rule); anatomy
STERNUM_MM3 = 3000.0  # a smaller piece is calcified cartilage; default

# bones that only touch
NECK_ERODE_MM = 1.5  # a contact breaks under it, a rib does not; default
NECK_CORE_MM3 = 300.0  # what is left of a bone then; default
NECK_MM2 = 45.0  # of voxel faces: a contact is smaller, a rib's section larger (60 to 100 mm2 and its slant); anatomy
NECK_PART_MM3 = 2000.0  # both parts are larger; default

# joints of a scan without a spine
JOINT_LEVELS = (
    (0.97, 1.0),
    (0.92, 1.5),
    (0.85, 2.0),
    (0.8, 2.5),
)  # (quantile of the valley, erosion in mm), gently first; M B.2.4
JOINT_CORE_MM3 = 800.0  # what is left of a bone then; default
JOINT_PART_MM3 = 2500.0  # smaller bones of hand and foot are not told apart; default
JOINT_RATIO = (
    0.8  # value on a cut over the brightest beside it: joints 0.4 to 0.65, waists of one bone 0.95 and more (ankle, skull)
)
JOINT_MARGIN_MM = 6.0  # round the component; default
JOINT_LEAST_MM3 = 20000.0  # a smaller component is one bone; default

# names by shape
HOLLOW_RADIUS_MM = (35.0, 140.0)  # no bone within the first of a head's middle, bone all round within the second; anatomy
HOLLOW_DIRECTIONS = 0.65  # of 26 directions: face and neck stay open; anatomy
VAULT_OVER_MM = 35.0  # between the mean heights of vault and base, or of skull and mandible; anatomy
MANDIBLE_WIDE_MM = 70.0  # between its condyles at least; anatomy
LONG_RATIO = 5.0  # a long bone is that many times as long as its section is wide; anatomy
SLENDER_SHARE = 0.4  # of a tibia's section: a fibula has less; anatomy
LIMB_NEAR_MM = 12.0  # neighbours at knee and ankle lie so near; anatomy
PATELLA_MM3 = 40000.0  # no patella is larger; anatomy

# quality of a cut
DENSE_OVER_SOFT_HU = 350.0  # of a value on a cut that is called dense: about 400 HU; M B.4
METAL_MOST_MM3 = 1.0e3  # a few fillings and clips; as in segment/quality
